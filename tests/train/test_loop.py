"""The loop on a small model: it learns, guards against what is not finite, stops when asked, and goes on exactly."""

import json
import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

import tiny
from data.corpus import tones, write_tar
from lapis.data.sources import Tars
from lapis.objectives.contrast import Sigmoid, Softmax
from lapis.objectives.learner import Learner
from lapis.train.checkpoint import Checkpoints
from lapis.train.loop import Training, train
from lapis.train.optim import AdamW, Constant
from lapis.train.report import Report, read_log


@pytest.fixture
def batch(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    write_tar(tmp_path / "a.tar", tones(6))
    return tiny.batch(Tars("a.tar"))


def _learner(kind=Softmax):
    model = tiny.model()
    torch.manual_seed(1)
    return Learner(model, [kind.Config().build(model)], {"contrast": 1.0})


def _train(learner, folder: Path, batch, *, recipe="one", steps=6, on_batch=lambda number: None, **training):
    def batches(position):
        for number in count(position // len(batch)):
            on_batch(number)
            # A different order of the clips each time, as a function of the position alone.
            yield type(batch)(batch.waveforms, batch.captions, batch.draws, (number + 1) * len(batch))

    return train(
        learner,
        batches=batches,
        optimizer_config=AdamW(),
        schedule=Constant(3e-3),
        training=Training(steps=steps, **{"validate_every": 4, "save_every": 2} | training),
        checkpoints=Checkpoints(folder, recipe={"name": recipe}),
        report=Report(folder, name="test", steps=steps),
        validate=lambda model: {"always": 0.5},
        export=lambda model, name, objectives: None,
    )


def test_it_reports_and_saves(batch, tmp_path):
    progress = _train(_learner(), tmp_path / "run", batch)
    assert (progress.step, progress.position) == (6, 36)
    log = read_log(tmp_path / "run" / "log.jsonl")
    steps = [line for line in log if "losses" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1]["losses"]["contrast"] < steps[0]["losses"]["contrast"]
    assert [line["step"] for line in log if "validation" in line] == [4, 6]
    assert sorted(path.name for path in (tmp_path / "run").glob("*.pt")) == [
        "checkpoint-00000004.pt",
        "checkpoint-00000006.pt",
    ]
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


@pytest.mark.parametrize("kind", [Softmax, Sigmoid])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_interrupted_and_resumed_equals_uninterrupted(batch, tmp_path, kind, stop_after):
    whole = _learner(kind)
    _train(whole, tmp_path / "whole", batch)

    def interrupt(number):
        if number == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    progress = _train(_learner(kind), tmp_path / "parts", batch, on_batch=interrupt)
    assert progress.step == stop_after + 1  # the step in hand was ended and saved
    rest = _learner(kind)
    _train(rest, tmp_path / "parts", batch)
    for (name, one), other in zip(whole.state_dict().items(), rest.state_dict().values(), strict=True):
        assert torch.equal(one, other), name

    def losses(run):
        return [line.get("losses") for line in read_log(tmp_path / run / "log.jsonl")]

    assert losses("whole") == losses("parts")


def test_a_second_signal_stops_at_once(batch, tmp_path):
    def interrupt(number):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _train(_learner(), tmp_path / "run", batch, on_batch=interrupt)


def test_what_is_not_finite_stops_the_run_and_names_the_batch(batch, tmp_path):
    learner = _learner()
    with torch.no_grad():
        learner.model.audio_projection.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"step 0 of process 0: expected a finite loss.*a\.tar:clip000\.flac"):
        _train(learner, tmp_path / "run", batch)
    assert not list((tmp_path / "run").glob("*.pt"))


def test_bfloat16_learns_too(batch, tmp_path):
    _train(_learner(), tmp_path / "run", batch, precision="bfloat16", steps=12)
    steps = [line for line in read_log(tmp_path / "run" / "log.jsonl") if "losses" in line]
    assert steps[-1]["losses"]["contrast"] < steps[0]["losses"]["contrast"]


def test_a_checkpoint_of_another_recipe_is_refused(batch, tmp_path):
    _train(_learner(), tmp_path / "run", batch, steps=2)
    with pytest.raises(ValueError, match="belongs to a run with another recipe; it differs in name"):
        _train(_learner(), tmp_path / "run", batch, recipe="other")


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_damaged_checkpoint_is_refused(batch, tmp_path, keep):
    _train(_learner(), tmp_path / "run", batch, steps=2)
    path = tmp_path / "run" / "checkpoint-00000002.pt"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else len(content) * keep)])
    with pytest.raises(ValueError, match=r"checkpoint-00000002\.pt is not a whole checkpoint"):
        _train(_learner(), tmp_path / "run", batch)


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/lapis-was-here",)


def test_a_checkpoint_with_code_is_refused(batch, tmp_path):
    (tmp_path / "run").mkdir()
    torch.save({"format": 1, "step": 1, "code": _Evil()}, tmp_path / "run" / "checkpoint-00000001.pt")
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        _train(_learner(), tmp_path / "run", batch)
    assert not Path("/tmp/lapis-was-here").exists()


def test_lines_after_the_checkpoint_are_taken_back(batch, tmp_path):
    """As after kill -9: the log is ahead of the checkpoint, its last line cut."""
    _train(_learner(), tmp_path / "run", batch, steps=4)
    log = tmp_path / "run" / "log.jsonl"
    before = log.read_text()
    with log.open("a") as file:
        file.write(json.dumps({"step": 5, "losses": {"contrast": 9.0}}) + "\n" + '{"step": 6, "los')
    _train(_learner(), tmp_path / "run", batch, steps=6)
    lines = read_log(log)
    assert log.read_text().startswith(before)
    assert [line["step"] for line in lines if "losses" in line] == [1, 2, 3, 4, 5, 6]
    assert all(line["losses"]["contrast"] != 9.0 for line in lines if "losses" in line)


def test_the_model_is_in_training_mode_from_the_first_step_and_after_validations(batch, tmp_path):
    """A tower that comes in evaluation mode (as `from_pretrained` gives it) must not train without its dropout."""
    learner, modes = _learner(), []
    learner.model.audio_encoder.eval()
    _train(learner, tmp_path / "run", batch, on_batch=lambda n: modes.append(learner.model.audio_encoder.training))
    assert modes == [True] * 6


def test_what_a_killed_save_left_behind_is_removed(batch, tmp_path):
    (tmp_path / "run").mkdir()
    leftover = tmp_path / "run" / ".checkpoint-00000002.pt.abc.part"
    leftover.write_bytes(b"half")
    _train(_learner(), tmp_path / "run", batch, steps=1)
    assert not leftover.exists()


def test_a_cached_run_is_the_run_in_one_pass(batch, tmp_path):
    losses = []
    for cached_clips in (None, 4):
        model = tiny.model(audio=replace(tiny.CONFIG.audio, augment=None))
        learner = Learner(model, [Softmax.Config().build(model)], {"contrast": 1.0})
        folder = tmp_path / f"run{cached_clips}"
        _train(learner, folder, batch, cached_clips=cached_clips)
        losses.append([line["losses"]["contrast"] for line in read_log(folder / "log.jsonl") if "losses" in line])
    assert losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
