"""Four processes train as one: copies and spread weights, also where an objective has a slow copy of a tower."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_processes import Job, _close, _run, _same

import processes
import tiny
from data.corpus import tones, write_tar
from lapis.audio_encoders.m2d import M2d
from lapis.objectives.contrast import Softmax
from lapis.objectives.distill import Distill
from lapis.objectives.duo import Duo
from lapis.objectives.learner import Learner

SHARDED = (("sharded", True), ("average", 0.9))


def contrast() -> Learner:
    return _with(tiny.CONFIG.audio, contrast=Softmax.Config(positives="caption"))


def distill() -> Learner:
    """Head and teacher, which moves fast enough to be seen."""
    config = Distill.Config(steps=20, hidden=24, bottleneck=8, prototypes=12, momentum=0.8, end_momentum=0.9)
    return _with(tiny.CONFIG.audio, contrast=Softmax.Config(positives="caption"), distill=config)


def duo() -> Learner:
    audio = M2d.Config(columns=6, chunk_frames=96, width=16, depth=2, heads=2, hidden=24)
    config = Duo.Config(width=16, depth=1, heads=2, steps=20, decay=0.8, last_decay=0.9)
    return _with(audio, masked=config)


def _with(audio, **objectives) -> Learner:
    model = tiny.model(audio=replace(audio, augment=None) if hasattr(audio, "augment") else audio)
    torch.manual_seed(1)
    built = [config.build(model) for config in objectives.values()]
    return Learner(model, built, dict.fromkeys(objectives, 1.0))


LEARNERS: dict[str, Callable[[], Learner]] = {"contrast": contrast, "distill": distill, "duo": duo}


@dataclass(frozen=True)
class Runs:
    """Of one learner in every process: as copies, spread, and spread again from a checkpoint in the middle."""

    whole: tuple
    sharded: tuple
    stopped: int
    gone_on: tuple


def _job(corpus: Path, folder: Path, name: str) -> Job:
    return Job(corpus, folder / name, steps=8, clips=12, learner=LEARNERS[name])


def _all(corpus: Path, folder: Path) -> dict[str, Runs]:
    found = {}
    for name in LEARNERS:
        job = _job(corpus, folder, name)
        parts = replace(job, folder=folder / f"{name} in parts", training=SHARDED)
        found[name] = Runs(
            whole=_run(job),
            sharded=_run(replace(job, folder=folder / f"{name} sharded", training=SHARDED)),
            stopped=_run(replace(parts, stop=2))[2],
            gone_on=_run(parts),
        )
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_tar(folder / "a.tar", tones(20))
    return folder


@pytest.fixture(scope="module")
def four(corpus, tmp_path_factory):
    return processes.run(_all, corpus, tmp_path_factory.mktemp("runs"), world_size=4, seconds=400)


@pytest.fixture(scope="module", params=LEARNERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory, name):
    return _run(_job(corpus, tmp_path_factory.mktemp("alone"), name))


def test_four_processes_take_the_steps_of_one(four, alone, name):
    _close(four[0][name].whole, alone)
    for found in four[1:]:
        _same(found[name].whole, four[0][name].whole)


def test_spread_over_four_they_take_the_steps_of_one(four, alone, name):
    """The weights, and the slow copy of a tower that follows them, are spread alike."""
    _close(four[0][name].sharded, alone)


def test_what_was_spread_over_four_goes_on_exactly(four, name):
    assert [found[name].stopped for found in four] == [4] * 4
    assert four[0][name].gone_on[0] == four[0][name].sharded[0]
    _same(four[0][name].gone_on, four[0][name].sharded)


def test_the_slow_copy_has_moved(alone, name):
    start = {key: value.numpy() for key, value in LEARNERS[name]().state_dict().items()}
    slow = [key for key in alone[1] if ".teacher" in key or ".target" in key]
    assert bool(slow) == (name != "contrast")
    assert all(np.abs(alone[1][key] - start[key]).max() > 0 for key in slow if key.endswith("weight"))
