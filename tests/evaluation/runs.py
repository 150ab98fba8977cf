"""Runs of made-up figures, for what reads results: two directions of retrieval, and zero-shot in three languages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lapis.data.sample import Location, Sample
from lapis.evaluation.bootstrap import interval, mean_of
from lapis.evaluation.figure import Figure
from lapis.evaluation.results import Measured, RunResults

NUM_CLIPS, CAPTIONS = 40, 5
CLASSES = ("dog", "rain", "bell & <whistle>")


@dataclass(frozen=True)
class MadeUp:
    """A protocol's result."""

    figures: Mapping[str, Figure]
    items: Mapping[str, np.ndarray]
    protocol: str = "Counts what is right."
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    further: Mapping[str, Any] = field(default_factory=dict)
    chosen: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"protocol": self.protocol, "chosen": self.chosen, "figures": {}} | dict(self.further)


def figure(items: np.ndarray, *, chance: float | None = 0.1, unit="share", groups=None) -> Figure:
    clusters = np.arange(len(items)) if groups is None else groups
    return Figure(float(items.mean()), chance, interval(mean_of(items), clusters=clusters), unit)


def clips(folder, *, count=NUM_CLIPS) -> list[Sample]:
    made = []
    for number in range(count):
        (folder / f"{number}.wav").write_bytes(b"x" * (number + 1))
        made.append(
            Sample(
                key=str(number),
                audio=Location(folder / f"{number}.wav"),
                captions={"eng_Latn": (f"sound {number}",)},
                label="dog",
                domain="sound",
            )
        )
    return made


def retrieval(seed: int, *, skill: float) -> Measured:
    random = np.random.default_rng(seed)
    figures, items, groups = {}, {}, {}
    for direction, queries in (("text to audio", NUM_CLIPS * CAPTIONS), ("audio to text", NUM_CLIPS)):
        ranks = np.ceil(random.random(queries) ** skill * NUM_CLIPS)
        owners = np.arange(queries) // (queries // NUM_CLIPS)
        for metric, of, unit in (
            ("R@1", (ranks <= 1).astype(float), "share"),
            ("R@5", (ranks <= 5).astype(float), "share"),
            ("mean rank", ranks, "rank"),
        ):
            name = f"{metric} {direction}"
            items[name], groups[name] = of, owners
            figures[name] = figure(of, chance=0.025 if unit == "share" else None, unit=unit, groups=owners)
        figures[f"median rank {direction}"] = Figure(float(np.median(ranks)), unit="rank")
    return Measured(
        protocol="Retrieval between 40 clips and 200 captions.",
        figures=figures,
        items=items,
        groups=groups,
        data_checksum="ab" * 32,
        num_clips=NUM_CLIPS,
        domain="sound",
    )


def zeroshot(seed: int, *, right: float, domain="sound", language="eng_Latn", training="given") -> Measured:
    random = np.random.default_rng(seed)
    true = random.integers(3, size=NUM_CLIPS)
    given = np.where(random.random(NUM_CLIPS) < right, true, random.integers(3, size=NUM_CLIPS))
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (true, given), 1)
    items = (true == given).astype(float)
    return Measured(
        protocol="Zero-shot classification of 40 clips into 3 classes.",
        figures={"accuracy": figure(items, chance=1 / 3)},
        items={"accuracy": items},
        data_checksum="cd" * 32,
        num_clips=NUM_CLIPS,
        seconds=0.5,
        domain=domain,
        languages=(language,),
        languages_in_training=training,
        prompts={name: [f"the sound of {name}", name] for name in CLASSES},
        seeds=(1, 2),
        unreadable=("7: no sound",),
        details={"confusion": confusion.tolist(), "classes": list(CLASSES)},
    )


def run(seed: int = 0, *, right: float = 0.7, skill: float = 3.0, model: str = "runs/one") -> RunResults:
    return RunResults(
        model=model,
        identity=f"{model}@{seed}",
        suite="papers",
        benchmarks={
            "audiocaps-retrieval-1": retrieval(seed, skill=skill),
            "esc50-zeroshot-1": zeroshot(seed, right=right),
            "esc50-zeroshot-deu_Latn-1": zeroshot(seed + 1, right=right, language="deu_Latn"),
            "esc50-zeroshot-jpn_Jpan-1": zeroshot(seed + 2, right=right, language="jpn_Jpan", training="never given"),
            "gtzan-zeroshot-1": zeroshot(seed + 3, right=right, domain="music"),
        },
        started="2026-11-21T20:00:00+00:00",
        seconds=12.5,
        surroundings={"torch": "2.13.0", "processor": "one"},
        absent={"mswc-kws-1": "its clips are not there"},
    )
