"""Reading clips for training: indexed tars against tars read as a stream, a plain file tree, and decoding alone.

All forms read the same Opus or FLAC clips and decode them to the same samples (the sums are compared), in two workers
(processes but for one form), one form after another in every round, so that what else the machine does weighs on all
alike. `decoding` is libsndfile over bytes that are in memory already: what none can be faster than; `soundfile.read`
is the same as that package does it, with a seek after the end. What is over it is a cost a clip, so that it weighs less
on longer ones: `--clip-seconds` joins those of a tar. The streams read their tars from end to end, so that
they can shuffle only within a buffer; the others read every clip in random order. `webdataset` is measured where the
package is installed.
"""

import argparse
import io
import json
import multiprocessing
import os
import resource
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from lapis.data.batching import Budget, Draw
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.order import shuffled
from lapis.data.sources import Tars

CLIPS = 32
"""In a batch."""


class Looking:
    """Whether the samples are looked at: in a round before those that are timed, since sums of sound that has left the
    processor's cache cost more than of sound that was decoded just now. Workers, being copies, see it too."""

    at_samples = False


class Forward(soundfile.SoundFile):
    """Without the seek that soundfile makes after each read, which costs Opus a quarter of its decoding."""

    def seekable(self) -> bool:  # noqa: D102  (soundfile's own)
        return False


def decode(content: bytes) -> torch.Tensor:
    with Forward(io.BytesIO(content)) as file:
        samples = file.read(file.frames, dtype="float32")
    return torch.from_numpy(samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32))


def packed(sounds: list[torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
    return torch.cat(sounds), [len(sound) for sound in sounds]


class Tree(Dataset):
    """A file a clip, and one of words beside it."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> torch.Tensor:
        path = self.paths[shuffled(place, len(self.paths), seed=(0,))]
        json.loads(path.with_suffix(".json").read_bytes())
        return decode(path.read_bytes())


class Streamed(IterableDataset):
    """Tars from end to end, dealt to the workers."""

    def __init__(self, tars: list[Path]) -> None:
        self.tars = tars

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        mine = self.tars if worker is None else self.tars[worker.id :: worker.num_workers]
        for path in mine:
            with tarfile.open(path, "r|") as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    content = b"" if file is None else file.read()
                    if member.name.endswith(".json"):
                        json.loads(content)
                    else:
                        yield decode(content)


def of_loader(data: Any, *, workers: int) -> tuple[int, float]:
    loader = DataLoader(data, batch_size=CLIPS, num_workers=workers, collate_fn=packed, multiprocessing_context="fork")
    return _drained((rows, lengths) for rows, lengths in loader)


class Once(Mixture):
    """A mixture of one source that ends after an epoch, so that no worker reads on into the next one."""

    def draws(self, position: int) -> Iterator[Draw]:  # noqa: D102  (the mixture's own)
        return islice(super().draws(position), len(self.sources[0]) - position)


def indexed(mixture: Mixture, *, workers: int, threads: bool) -> tuple[int, float]:
    budget = Budget(clips=CLIPS, seconds=1e9, clip_seconds=1e6)
    loader = Loader(mixture, budget=budget, sample_rate=RATE, reading=Reading(workers=workers, threads=threads))

    def batches() -> Iterator[tuple[torch.Tensor, list[int]]]:
        for batch in loader.batches(0):
            assert not batch.dropped, batch.dropped[0]
            yield batch.waveforms.rows, list(batch.waveforms.lengths)

    return _drained(batches())


RATE = 16_000


def _drained(batches: Any) -> tuple[int, float]:
    """The number of clips; in the round that is not timed, the sum of all samples too."""
    count, total = 0, 0.0
    for rows, lengths in batches:
        count += len(lengths)
        if Looking.at_samples:
            total += sum(float(clip.abs().sum(dtype=torch.float64)) for clip in rows.split(lengths))
    return count, total


def plain(content: bytes) -> torch.Tensor:
    samples, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    return torch.from_numpy(samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32))


def decoding(
    contents: list[bytes], *, workers: int, decode: Callable[[bytes], torch.Tensor] = decode
) -> tuple[int, float]:
    """Each worker its share, held in memory since before the fork."""
    shares = [contents[worker::workers] for worker in range(workers)]
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def work(share: list[bytes]) -> None:
        sending.send(_drained(packed([decode(content)]) for content in share))

    children = [context.Process(target=work, args=(share,)) for share in shares]
    for child in children:
        child.start()
    answers = [receiving.recv() for _ in children]
    for child in children:
        child.join()
    return sum(count for count, _ in answers), sum(total for _, total in answers)


def webdataset(tars: list[Path], *, workers: int) -> tuple[int, float]:
    import webdataset as wds

    def sounds(sample: dict[str, Any]) -> torch.Tensor:
        json.loads(sample["json"])
        return decode(next(content for name, content in sample.items() if name in ("opus", "flac")))

    data = wds.WebDataset([str(path) for path in tars], shardshuffle=False, workersplitter=wds.split_by_worker)
    return of_loader(data.map(sounds), workers=workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of tars; made of tones unless told")
    parser.add_argument("--shards", type=int, default=8, help="so many of the tars, evenly from their names' order")
    parser.add_argument("--clip-seconds", type=float, help="clips of a tar joined to ones of this length")
    parser.add_argument("--clips", type=int, default=1200, help="at most so many joined ones")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few clips, one round")
    parser.add_argument("--out", type=Path, default=Path("bench/results/data.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAPIS_CACHE"] = str(Path(folder, "cache"))
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    tars = chosen(options.data, options.shards, folder) if options.data else tones(folder, quick=options.quick)
    if options.clip_seconds:
        tars = joined(tars, seconds=options.clip_seconds, most=options.clips, folder=folder / "joined")
    contents, paths = laid_out(tars, folder / "tree")
    count, num_bytes = len(contents), sum(map(len, contents))
    begin = time.perf_counter()
    mixture = Once(Mixture.Config((Part(Tars(str(tars[0].parent / "*.tar"))),)), seed=0)
    index_seconds = time.perf_counter() - begin
    workers = options.workers
    forms: dict[str, Callable[[], tuple[int, float]]] = {
        "decoding": partial(decoding, contents, workers=workers),
        "soundfile.read": partial(decoding, contents, workers=workers, decode=plain),
        "indexed tars": partial(indexed, mixture, workers=workers, threads=False),
        "... in threads": partial(indexed, mixture, workers=workers, threads=True),
        "file tree": partial(of_loader, Tree(paths), workers=workers),
        "tarfile stream": partial(of_loader, Streamed(tars), workers=workers),
    }
    if find_spec("webdataset"):
        forms["webdataset"] = partial(webdataset, tars, workers=workers)
    times: dict[str, list[float]] = {name: [] for name in forms}
    costs: dict[str, list[float]] = {name: [] for name in forms}
    sums: dict[str, float] = {}
    Looking.at_samples = True
    for name, form in forms.items():
        read, sums[name] = form()
        assert read == count, f"{name} read {read} of {count} clips"
    Looking.at_samples = False
    expected = sums["decoding"]
    assert all(abs(total - expected) < 1e-6 * expected for total in sums.values()), sums
    for _ in range(1 if options.quick else options.rounds):
        for name, form in forms.items():
            begin, spent = time.perf_counter(), processor_seconds()
            form()
            times[name].append(time.perf_counter() - begin)
            costs[name].append(processor_seconds() - spent)
    print(f"{count:,} clips, {num_bytes / 1e6:.1f} MB of sound in {len(tars)} tars, {workers} workers")
    print(f"opened and indexed in {index_seconds:.2f} s")
    print(
        f"{'':16}{'clips/s':>10}{'MB/s':>8}{'ms of processor/clip':>22}{'over decoding: time':>21}{'processor':>11}"
        f"{'over soundfile.read':>21}"
    )
    for name, values in times.items():
        middle, cost = statistics.median(values), statistics.median(costs[name]) / count
        line = f"{name:16}{count / middle:10.0f}{num_bytes / 1e6 / middle:8.2f}{1000 * cost:22.3f}"
        line += f"{over(values, times['decoding']):+21.1%}{over(costs[name], costs['decoding']):+11.1%}"
        print(f"{line}{over(costs[name], costs['soundfile.read']):+21.1%}")
    told = {"clips": count, "bytes": num_bytes, "workers": workers, "index_seconds": index_seconds}
    told |= {"seconds": times, "processor_seconds": costs}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(told, indent=2))


def processor_seconds() -> float:
    """Of this process and of those it has waited for: what else the machine does weighs little on it."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def over(values: list[float], alone: list[float]) -> float:
    """How much more than the others of the same round, in the median."""
    return statistics.median(one / other for one, other in zip(values, alone, strict=True)) - 1


def chosen(data: Path, shards: int, folder: Path) -> list[Path]:
    """Some tars of a folder, by links in one of their own."""
    found = sorted(data.glob("*.tar"))
    (folder / "tars").mkdir()
    links = []
    for place in range(min(shards, len(found))):
        path = found[place * len(found) // min(shards, len(found))]
        links.append(folder / "tars" / path.name)
        links[-1].symlink_to(path.resolve())
    return links


def joined(tars: list[Path], *, seconds: float, most: int, folder: Path) -> list[Path]:
    """Tars of Opus clips of one length, each made of neighbours of a tar, with the words of the first of them."""
    folder.mkdir()
    made, count = [], 0
    for number, path in enumerate(tars, start=1):
        sounds: list[np.ndarray] = []
        words: dict[str, Any] = {}
        made.append(folder / path.name)
        with tarfile.open(path) as tar, tarfile.open(made[-1], "w") as out:
            for member in tar:
                if count == most * number // len(tars):
                    break
                file = tar.extractfile(member)
                content = b"" if file is None else file.read()
                if member.name.endswith(".json"):
                    words = words or json.loads(content)
                else:
                    sounds.append(decode(content).numpy())
                if words and sum(map(len, sounds)) >= seconds * RATE:
                    sound = io.BytesIO()
                    samples = np.concatenate(sounds)[: int(seconds * RATE)]
                    soundfile.write(sound, samples, RATE, format="OGG", subtype="OPUS")
                    told = json.dumps(words | {"seconds": len(samples) / RATE}).encode()
                    put(out, f"{count:06d}", {"opus": sound.getvalue(), "json": told})
                    sounds, words, count = [], {}, count + 1
    return made


def put(tar: tarfile.TarFile, key: str, contents: dict[str, bytes]) -> None:
    for suffix, content in contents.items():
        member = tarfile.TarInfo(f"{key}.{suffix}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def tones(folder: Path, *, quick: bool) -> list[Path]:
    """Tars of noises of two to eight seconds."""
    random = np.random.default_rng(0)
    (folder / "tars").mkdir()
    paths = []
    for shard in range(2 if quick else 8):
        paths.append(folder / "tars" / f"{shard:03d}.tar")
        with tarfile.open(paths[-1], "w") as tar:
            for number in range(16 if quick else 128):
                sound = io.BytesIO()
                samples = 0.1 * random.standard_normal(int(RATE * (0.2 if quick else random.uniform(2, 8))))
                soundfile.write(sound, samples.astype(np.float32), RATE, format="FLAC")
                words = json.dumps({"captions": {"eng_Latn": ["noise"]}, "seconds": len(samples) / RATE})
                put(tar, f"{shard:03d}-{number:05d}", {"flac": sound.getvalue(), "json": words.encode()})
    return paths


def laid_out(tars: list[Path], folder: Path) -> tuple[list[bytes], list[Path]]:
    """The clips of tars as bytes, and as files with their words beside them, a folder a tar."""
    contents, paths = [], []
    for path in tars:
        (folder / path.stem).mkdir(parents=True)
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                content = b"" if file is None else file.read()
                written = folder / path.stem / Path(member.name).name
                written.write_bytes(content)
                if not member.name.endswith(".json"):
                    contents.append(content)
                    paths.append(written)
    return contents, paths


if __name__ == "__main__":
    main()
