"""How long after a sound begins `lapis watch` tells of it: clips of the pocket corpus's test split in noise, given to
the command through a pipe as fast as they sound, and its lines timed as they arrive.

Also what it does with more than it can hear: the same sound as fast as the pipe takes it.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from lapis import recipe, saved
from lapis.datasets.pocket import Pocket, class_names
from lapis.evaluation.planted import Scene, planted_events

RATE = 16_000
PIECE = RATE // 20


@dataclass(frozen=True)
class Answer:
    """What the command said, each line with the second at which it arrived, counted from the first sample."""

    lines: list[tuple[float, dict]]
    summary: str
    seconds: float


def listened(model: str, texts: list[str], samples: np.ndarray, *, paced: bool) -> Answer:
    """Give samples to `lapis watch`, in the time that they last or at once."""
    words = [part for text in texts for part in ("--for", text)]
    command = [sys.executable, "-m", "lapis.cli", "watch", "--stream", "-", "--json", "--model", model, *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin and process.stdout and process.stderr
    while b"listening" not in (line := process.stderr.readline()):
        if not line:
            raise SystemExit(f"lapis watch ended with status {process.wait()}")
    lines: list[tuple[float, dict]] = []
    begin = time.monotonic()

    def read(stream: IO[bytes]) -> None:
        for line in stream:
            lines.append((time.monotonic() - begin, json.loads(line)))

    reader = threading.Thread(target=read, args=(process.stdout,))
    reader.start()
    content = (samples.clip(-1, 1) * 32767).astype("<i2")
    for first in range(0, len(content), PIECE):
        if paced:
            # A piece is there when its last sample has sounded.
            time.sleep(max(0.0, begin + (first + PIECE) / RATE - time.monotonic()))
        process.stdin.write(content[first : first + PIECE].tobytes())
        process.stdin.flush()
    process.stdin.close()
    summary = process.stderr.read().decode().splitlines()[-1]
    reader.join()
    if status := process.wait():
        raise SystemExit(f"lapis watch ended with status {status}")
    return Answer(lines, summary, time.monotonic() - begin)


def delays(answer: Answer, scene: Scene, names: dict[str, str]) -> dict[str, float | int]:
    """Of events that are there and were told of, from their true beginning until the line; and what the lines say."""
    true = []
    told = [(at, line) for at, line in answer.lines if line["kind"] == "begin"]
    for event in scene.events:
        heard = [
            at - event.begin_seconds
            for at, line in told
            if line["text"] == names[event.label]
            and event.begin_seconds - 0.7 < line["begin_seconds"] < event.end_seconds
        ]
        true += heard[:1]
    said = [at - line["begin_seconds"] for at, line in told]
    return {
        "events": len(scene.events),
        "events told of": len(true),
        "lines that something begins": len(told),
        "seconds from the true beginning, median": float(np.median(true)) if true else float("nan"),
        "seconds from the true beginning, most": max(true, default=float("nan")),
        "seconds from the beginning that is told, median": float(np.median(said)) if said else float("nan"),
        "seconds from the beginning that is told, most": max(said, default=float("nan")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="", help="a trained folder; the pocket recipe's untrained model unless told")
    parser.add_argument("--seconds", type=float, default=120.0, help="of sound")
    parser.add_argument("--quick", action="store_true", help="two seconds, and no flood")
    parser.add_argument("--out", type=Path, default=Path("bench/results/watch.json"))
    options = parser.parse_args()
    seconds, events = (2.0, 1) if options.quick else (options.seconds, int(options.seconds / 5))
    longest = 1.0 if options.quick else 3.0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model = options.model
    if not model:
        model = str(options.out.parent / "untrained")
        saved.save(recipe.find("pocket").model.build(), Path(model))
    clips = list(Pocket("test", "sound").build())[: 8 if options.quick else None]
    scene = planted_events(clips, scenes=1, seconds=seconds, events=events, longest_seconds=longest)[0]
    of_all = class_names("sound")
    names = {event.label: of_all[event.label]["eng_Latn"] for event in scene.events}
    texts = sorted(set(names.values()))
    samples = scene.waveform(sample_rate=RATE)
    paced = listened(model, texts, samples, paced=True)
    found = delays(paced, scene, names)
    print(f"{seconds:g} s of sound as it comes, {len(texts)} texts: {paced.summary}")
    for name, value in found.items():
        print(f"  {name:50} {value if isinstance(value, int) else f'{value:.2f}'}")
    content = {"texts": texts, "paced": found, "said": paced.summary}
    if not options.quick:
        flood = listened(model, texts, np.tile(samples, 20), paced=False)
        print(f"more than can be heard: {flood.summary}; it took {flood.seconds:.1f} s")
        content["flood"] = flood.summary
    options.out.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
