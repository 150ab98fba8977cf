"""Embedding shared among workers: with workers killed at random, and one beside two, Ray beside plain shards.

First the table of a single process; then the same by Ray while workers, and now and then the driver, get SIGKILL at
random moments, and the driver is started again with the same command: each file must have its row once, in its place,
and how far vectors are from those of the single process is told. Then rates: Ray with one worker and with two, and one
and two plain shards, by turns in every round, since the machine may do other things too; the ratio of a round counts.
A rate is taken between 50 % and 95 % of the rows, when all workers are at work; starting costs are told beside it.

`--quick`, or no sounds, is one round of plain shards over a few made sounds, by a model that has learned nothing:
starting Ray alone would take longer.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from pyarrow import parquet

from lapis import recipe as recipes

STEPS = """
import json, sys, time
from functools import partial
from pathlib import Path
from lapis.hub import load
from lapis.search.bulk import embed_files
from lapis.search.ray_engine import embed_with_ray
from lapis.search.sharding import Shard

told = json.loads(sys.argv[1])
steps = []
progress = lambda done, total: steps.append((time.time(), done))
sources, out, model = [told["sources"]], told["out"], told["model"]
make = partial(load, model, device="cpu")
if told["engine"] == "ray":
    embed_with_ray(sources, make=make, out=out, workers=told["workers"], lease_clips=told["lease"], progress=progress)
else:
    shard = Shard(told["index"], told["workers"])
    embed_files(sources, embedder=make(), out=out, shard=shard, threads=2, progress=progress)
print(json.dumps(steps))
"""


def descendants(process: int) -> dict[int, str]:
    """The processes that this one has started, and theirs, with their names."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text(errors="replace")
        except OSError:
            continue  # it has just ended
    found = {process}
    for _ in range(8):
        found |= {child for child, parent in parents.items() if parent in found}
    return {number: names.get(number, "") for number in found - {process}}


def command(sources: Path, out: Path, *, model: str, words: list[str]) -> list[str]:
    own = ["embed", str(sources), "--model", model, "--out", str(out), "--device", "cpu"]
    return [sys.executable, "-m", "lapis.cli", *own, *words]


def with_faults(
    sources: Path, folder: Path, *, model: str, kills: int, driver_kills: int, every_seconds: float, lease: int
) -> dict[str, Any]:
    """Of a run of which workers and drivers are killed, beside an undisturbed one of a single process."""
    plain, out, chance = folder / "plain.parquet", folder / "ray.parquet", random.Random(0)
    began = time.monotonic()
    subprocess.run(command(sources, plain, model=model, words=[]), check=True, stdout=subprocess.DEVNULL)
    plain_seconds, began = time.monotonic() - began, time.monotonic()
    words = ["--engine", "ray", "--workers", "2", "--part-clips", str(lease)]
    killed = killed_drivers = starts = 0
    parts_at_kill: list[int] = []
    while not out.exists():
        starts += 1
        driver = subprocess.Popen(command(sources, out, model=model, words=words))
        end_of_driver = kills * (killed_drivers + 1) // (driver_kills + 1)
        while driver.poll() is None:
            time.sleep(chance.uniform(0.0, 2 * every_seconds))
            at_work = [number for number, name in descendants(driver.pid).items() if name.startswith("ray::Worker")]
            if killed_drivers < driver_kills and killed >= end_of_driver:
                driver.kill()
                driver.wait()
                killed_drivers += 1
            elif killed < kills and at_work:
                os.kill(chance.choice(at_work), signal.SIGKILL)
                killed += 1
                parts_at_kill.append(len(list(Path(f"{out}.parts").glob("rows-*"))))
        if driver.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"the command ended with {driver.returncode}")
    return {
        "clips": parquet.read_metadata(plain).num_rows,
        "workers_killed": killed,
        "drivers_killed": killed_drivers,
        "starts": starts,
        "parts_at_kills": parts_at_kill,
        "plain_seconds": round(plain_seconds, 1),
        "ray_seconds": round(time.monotonic() - began, 1),
        **compared(plain, out),
    }


def compared(plain: Path, out: Path) -> dict[str, Any]:
    """How alike two tables are."""
    one, two = parquet.read_table(plain), parquet.read_table(out)
    paths = two["path"].to_pylist()
    vectors = [np.array(table["vector"].drop_null().to_pylist(), np.float32) for table in (one, two)]
    columns = ("key", "path", "duration_seconds", "error")
    return {
        "each_file_once": len(paths) == len(set(paths)) == len(one),
        "other_columns_and_order_equal": one.select(columns).equals(two.select(columns)),
        "without_a_vector": two["error"].drop_null().length(),
        "vectors_of_the_same_bits": float(np.mean(np.all(vectors[0] == vectors[1], axis=1))),
        "largest_difference": float(np.abs(vectors[0] - vectors[1]).max()),
        "least_cosine": float((vectors[0].astype(np.float64) * vectors[1]).sum(1).min()),
    }


def rate(engine: str, workers: int, *, sources: Path, folder: Path, model: str, lease: int) -> dict[str, float]:
    """Clips a second, and seconds from the start to the first row and to the end."""
    out = folder / f"{engine}{workers}.parquet"
    began = time.time()
    told = {"sources": str(sources), "out": str(out), "model": model, "engine": engine, "workers": workers}
    indices = range(workers if engine == "shards" else 1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STEPS, json.dumps(told | {"index": index, "lease": lease, "overwrite": True})],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in indices
    ]
    steps: list[tuple[float, int]] = []
    for process in processes:
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{engine} with {workers} ended with {process.returncode}")
        own = json.loads(said.splitlines()[-1])
        steps += [(at, done - before) for (_, before), (at, done) in pairwise(own)]
    ended = time.time()
    steps.sort()
    done = np.cumsum([count for _, count in steps])
    at = np.array([at for at, _ in steps])
    first, last = (int(np.searchsorted(done, share * done[-1])) for share in (0.5, 0.95))
    for path in folder.glob(f"{out.name}*"):
        subprocess.run(["rm", "-r", str(path)], check=True)
    return {
        "clips_a_second": float((done[last] - done[first]) / (at[last] - at[first])),
        "seconds_to_first_row": float(at[0] - began),
        "seconds": ended - began,
    }


def scaling(
    sources: Path, folder: Path, *, model: str, rounds: int, lease: int, engines: tuple[str, ...] = ("ray", "shards")
) -> dict[str, Any]:
    forms = [(engine, workers) for workers in (1, 2) for engine in engines]
    results: dict[str, list[dict[str, float]]] = {f"{engine} {workers}": [] for engine, workers in forms}
    for number in range(rounds):
        for engine, workers in forms if number % 2 == 0 else reversed(forms):
            one = rate(engine, workers, sources=sources, folder=folder, model=model, lease=lease)
            results[f"{engine} {workers}"].append(one)
            print(engine, workers, {name: round(value, 1) for name, value in one.items()}, flush=True)
    rates = {name: [one["clips_a_second"] for one in runs] for name, runs in results.items()}
    told: dict[str, Any] = {"rounds": results}
    for engine in engines:
        told[f"{engine}: two over one"] = statistics.median(
            two / one for one, two in zip(rates[f"{engine} 1"], rates[f"{engine} 2"], strict=True)
        )
    if "ray" in engines:
        told["two workers of Ray over two shards"] = statistics.median(
            ray / shards for ray, shards in zip(rates["ray 2"], rates["shards 2"], strict=True)
        )
    return told


def made(folder: Path) -> tuple[Path, str]:
    """A folder of noises, and one of a small model that has learned nothing."""
    sounds, random = folder / "sounds", np.random.default_rng(0)
    sounds.mkdir()
    for number in range(24):
        soundfile.write(sounds / f"{number:02d}.wav", random.standard_normal(8000) / 10, 16_000)
    size = ("model.audio.width=24", "model.audio.depth=3", "model.audio.heads=2", "model.audio.hidden=24")
    settings = (*size, "budget.clips=6", "training.steps=2", "checks=[]", "threads=1")
    recipes.run(recipes.override(recipes.find("pocket"), settings), folder=folder / "model")
    return sounds, str(folder / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path, nargs="?", help="a folder of sounds")
    parser.add_argument("--model", default="")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--driver-kills", type=int, default=2)
    parser.add_argument("--every-seconds", type=float, default=3.0, help="on average between kills")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lease", type=int, default=64, help="clips")
    parser.add_argument("--only", choices=("faults", "scaling"), default=None)
    parser.add_argument("--quick", action="store_true", help="one round of plain shards over made sounds")
    parser.add_argument("--out", type=Path, default=Path("bench/results/cluster.json"))
    options = parser.parse_args()
    options.quick = options.quick or options.sources is None
    if not options.quick and not options.model:
        parser.error("expected --model beside the sounds")
    results: dict[str, Any] = {"load": os.getloadavg(), "processors": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.quick:
            sources, model = made(folder)
            results["scaling"] = scaling(sources, folder, model=model, rounds=1, lease=4, engines=("shards",))
        else:
            sources, model = options.sources, options.model
        if not options.quick and options.only != "scaling":
            results["faults"] = with_faults(
                sources,
                folder,
                model=model,
                kills=options.kills,
                driver_kills=options.driver_kills,
                every_seconds=options.every_seconds,
                lease=options.lease,
            )
            print(json.dumps(results["faults"], indent=1), flush=True)
        if not options.quick and options.only != "faults":
            results["scaling"] = scaling(sources, folder, model=model, rounds=options.rounds, lease=options.lease)
        if "scaling" in results:
            print(json.dumps({k: v for k, v in results["scaling"].items() if k != "rounds"}, indent=1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
