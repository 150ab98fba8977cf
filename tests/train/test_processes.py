"""Several processes train as one: the same losses and weights, equal copies, one end for all, one checkpoint."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import processes
import tiny
from data.corpus import tones, write_tar
from lapis import distributed
from lapis.data.batching import Batch, Budget
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.layers.augment import SpecAugment
from lapis.objectives.contrast import Sigmoid, Softmax
from lapis.objectives.learner import Learner, Objective
from lapis.ragged import Ragged
from lapis.train.checkpoint import Checkpoints
from lapis.train.loop import Training, train
from lapis.train.optim import AdamW, Constant
from lapis.train.report import Report, read_log

CLIPS = 6
"""In a batch of all processes."""


class Follower(Objective):
    """Contrast with a copy that follows the model, and batch statistics: all that moves without a gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.contrast = Sigmoid.Config(positives="caption").build(model)
        self.norm = nn.BatchNorm1d(model.width)
        self.copy = nn.Linear(model.audio_encoder.width, model.width).requires_grad_(False)
        self.never_used = nn.Parameter(torch.ones(3))

    def forward(self, model, batch, encoded):
        return self.contrast(model, batch, encoded) | {"norm": self.norm(encoded.audio).square().mean()}

    def after_step(self, model, *, step):
        self.copy.weight.lerp_(model.audio_projection.weight.detach(), 0.1)


@dataclass(frozen=True)
class Job:
    """A run that a process can be told about."""

    corpus: Path
    folder: Path
    steps: int = 10
    augment: bool = False
    follower: bool = False
    spoil: int | None = None  # the process whose sound is not a number in its fourth batch
    unreadable: int | None = None  # the process that cannot read its fourth batch
    stop: int | None = None  # the process that is asked to stop in its fourth batch
    training: tuple = ()
    clips: int = CLIPS  # in a batch of all processes
    learner: Callable[[], Learner] | None = None  # another one than contrast alone


def _learner(job: Job) -> Learner:
    if job.learner is not None:
        return job.learner()
    audio = replace(tiny.CONFIG.audio, augment=SpecAugment.Config() if job.augment else None)
    model = tiny.model(audio=audio)
    torch.manual_seed(1)
    if job.follower:
        return Learner(model, [Follower(model)], {"contrast": 1.0, "norm": 0.1})
    return Learner(model, [Softmax.Config(positives="caption").build(model)], {"contrast": 1.0})


def _batches(job: Job, position: int):
    mixture = Mixture.Config((Part(Tars(str(job.corpus / "a.tar"))),)).build(seed=3)
    budget = Budget(clips=job.clips // distributed.world_size(), seconds=60.0, clip_seconds=2.0)
    loader = Loader(mixture, budget=budget, sample_rate=16_000, reading=Reading(workers=0))
    for number, batch in enumerate(loader.batches(position)):
        here = number == 3 and distributed.rank()
        if here is not False and job.stop == here:
            os.kill(os.getpid(), signal.SIGTERM)
        if here is not False and job.unreadable == here:
            raise ValueError("no clip of a batch could be read")
        spoilt = batch.waveforms.rows * (torch.nan if here is not False and job.spoil == here else 1.0)
        yield Batch(Ragged(spoilt, batch.waveforms.lengths), batch.captions, batch.draws, batch.position)


def _run(job: Job) -> tuple[list, dict[str, np.ndarray], int]:
    """Losses as the log has them, all weights, and the steps taken."""
    torch.set_num_threads(1)
    learner = _learner(job)
    progress = train(
        learner,
        batches=lambda position: _batches(job, position),
        optimizer_config=AdamW(),
        schedule=Constant(1e-3),
        training=Training(steps=job.steps, **{"validate_every": 4, "save_every": 4} | dict(job.training)),
        checkpoints=Checkpoints(job.folder, recipe={}),
        report=Report(job.folder, name="test", steps=job.steps),
        validate=lambda model: {"always": 0.5},
        export=lambda model, name, objectives: None,
    )
    distributed.barrier()
    log = [line["losses"] for line in read_log(job.folder / "log.jsonl") if "losses" in line]
    whole = {name: _whole(tensor).numpy().copy() for name, tensor in learner.state_dict().items()}
    return log, whole, progress.step


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _error(job: Job) -> str:
    with pytest.raises(ValueError) as raised:
        _run(job)
    return str(raised.value)


SHARDED = (("sharded", True), ("average", 0.9), ("accumulate", 2), ("checkpoint_activations", True))


def _all(corpus: Path, folder: Path) -> dict[str, object]:
    """All that two processes do here, one after another: starting processes takes longer than any of it."""
    job = Job(corpus, folder / "whole")
    found: dict[str, object] = {
        "whole": _run(job),
        "accumulated": _run(
            replace(job, folder=folder / "accumulated", training=(("accumulate", 2), ("checkpoint_activations", True)))
        ),
        "fifty": _run(replace(job, folder=folder / "fifty", steps=50, augment=True, follower=True)),
        "spoilt": _error(replace(job, folder=folder / "spoilt", spoil=1)),
        "unreadable": _error(replace(job, folder=folder / "unreadable", unreadable=1)),
        "stopped": _run(replace(job, folder=folder / "to go on", stop=1))[2],
        "sharded": _run(replace(job, folder=folder / "sharded", training=SHARDED)),
        "sharded and stopped": _run(replace(job, folder=folder / "sharded parts", training=SHARDED, stop=1))[2],
    }
    if distributed.rank() == 0:
        for name in ("to go on", "sharded parts"):
            shutil.copytree(folder / name, folder / f"{name} alone")
    found["gone on"] = _run(replace(job, folder=folder / "to go on"))
    found["sharded gone on"] = _run(replace(job, folder=folder / "sharded parts", training=SHARDED))
    return found | {"after one": _run(replace(job, folder=folder / "of one", training=SHARDED))}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_tar(folder / "a.tar", tones(20))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def alone(corpus, folder):
    """Ten steps of one process."""
    return _run(Job(corpus, folder / "alone"))


@pytest.fixture(scope="module")
def alone_accumulating(corpus, folder):
    return _run(Job(corpus, folder / "alone accumulating", training=(("accumulate", 2), ("average", 0.9))))


@pytest.fixture(scope="module")
def together(corpus, folder):
    _run(Job(corpus, folder / "of one", steps=10, stop=0, training=SHARDED))
    return processes.run(_all, corpus, folder, seconds=400)


def _close(one, other):
    (log, weights, _), (other_log, other_weights, _) = one, other
    for line, expected in zip(log, other_log, strict=True):
        assert line.keys() == expected.keys()
        for name, loss in line.items():
            np.testing.assert_allclose(loss, expected[name], atol=1e-5, err_msg=name)
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, other_weights[name], atol=1e-5, err_msg=name)


def _same(one, other):
    assert one[1].keys() == other[1].keys()
    for name, weight in one[1].items():
        np.testing.assert_array_equal(weight, other[1][name], err_msg=name)


def test_two_processes_take_the_steps_of_one(together, alone):
    _close(together[0]["whole"], alone)
    _same(*(found["whole"] for found in together))


def test_with_gradients_of_several_batches_too(together, alone_accumulating):
    _close(together[0]["accumulated"], alone_accumulating)


def test_copies_are_equal_to_the_bit_after_fifty_steps(together):
    """Augmented differently, with parameters that nothing uses, batch statistics and a copy that follows."""
    first, second = (found["fifty"] for found in together)
    _same(first, second)
    assert first[1]["objectives.0.norm.running_var"].std() > 0


def test_stopped_in_one_process_all_stop_and_go_on_exactly(together):
    assert [found["stopped"] for found in together] == [4, 4]
    assert together[0]["gone on"][0] == together[0]["whole"][0]
    _same(together[0]["gone on"], together[0]["whole"])


def test_one_process_goes_on_where_two_were_stopped(together, corpus, folder, alone):
    """The same draws in the same order, and losses equal up to rounding."""
    _close(_run(Job(corpus, folder / "to go on alone")), alone)


def test_what_is_not_finite_stops_all_and_names_whose_batch_it_was(together):
    first, second = (found["spoilt"] for found in together)
    assert first == second and "a.tar:clip" in first
    assert "step 3 of process 1: expected a finite loss and gradient" in first


def test_what_one_process_cannot_read_stops_all(together):
    assert [found["unreadable"] for found in together] == ["process 1: no clip of a batch could be read"] * 2


def test_spread_over_two_processes_takes_the_steps_of_one(together, alone_accumulating):
    _close(together[0]["sharded"], alone_accumulating)


def test_what_was_spread_goes_on_exactly(together):
    assert [found["sharded and stopped"] for found in together] == [2, 2]
    assert together[0]["sharded gone on"][0] == together[0]["sharded"][0]
    _same(together[0]["sharded gone on"], together[0]["sharded"])


def test_what_was_spread_over_two_goes_on_in_one_and_back(together, corpus, folder, alone_accumulating):
    shares = list((folder / "sharded parts alone").glob("checkpoint-*.shards/*"))
    assert shares and all(path.suffix == ".safetensors" for path in shares)
    _close(_run(Job(corpus, folder / "sharded parts alone", training=SHARDED)), alone_accumulating)
    _close(together[0]["after one"], alone_accumulating)
