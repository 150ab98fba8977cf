"""Every objective in the folder: it can be built, gives finite named terms, trains, and falls."""

import importlib
import pkgutil
from dataclasses import is_dataclass

import pytest
import torch

import lapis.objectives
import tiny
from data.corpus import tones, write_tar
from lapis.audio_encoders.m2d import M2d
from lapis.data.sources import Tars
from lapis.objectives.caption import Caption
from lapis.objectives.classify import Classify
from lapis.objectives.contrast import Softmax
from lapis.objectives.distill import Distill
from lapis.objectives.duo import Duo
from lapis.objectives.learner import Learner, Objective, weighted

NOT_OBJECTIVES = {"learner"}
FOLDER = [m.name for m in pkgutil.iter_modules(lapis.objectives.__path__) if m.name not in NOT_OBJECTIVES]
OBJECTIVES = [
    kind
    for name in FOLDER
    for kind in vars(importlib.import_module(f"lapis.objectives.{name}")).values()
    if isinstance(kind, type) and issubclass(kind, Objective) and kind is not Objective
]

# Objectives that mask patches need a tower whose patches can be left out.
M2D = {"audio": M2d.Config(width=32, depth=2, heads=2, hidden=48, pooling="semantic")}
TOWERS = {"Duo": M2D, "Visible": M2D}
# Those with networks of their own, small; the targets of self-distillation sharp, since its loss ends at their entropy.
SMALL = {
    "Distill": Distill.Config(
        hidden=32,
        bottleneck=16,
        prototypes=24,
        student_temperature=0.05,
        teacher_temperature=0.025,
        end_teacher_temperature=0.025,
    ),
    "Duo": Duo.Config(width=32, depth=1, heads=2),
    "Classify": Classify.Config(("tone 0", "tone 1", "tone 2")),
    "Caption": Caption.Config(width=32, depth=2, heads=2, hidden=64),
}


@pytest.fixture
def batch(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    write_tar(tmp_path / "a.tar", tones(8))
    return tiny.batch(Tars("a.tar"))


def test_the_folder_is_walked():
    assert {kind.__name__ for kind in OBJECTIVES} >= {"Softmax", "Sigmoid"}


@pytest.mark.parametrize("kind", OBJECTIVES, ids=lambda kind: kind.__name__)
def test_it_falls(kind, batch):
    assert is_dataclass(kind.Config)
    model = tiny.model(**TOWERS.get(kind.__name__, {}))
    objective = (SMALL.get(kind.__name__) or kind.Config()).build(model)
    names = objective(model, batch, lapis.objectives.learner.Encoded(model, batch)).keys()
    learner = Learner(model, [objective], dict.fromkeys(names, 1.0))
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    totals = []
    for step in range(60):
        found = learner(batch)
        found.total.backward()
        assert all(loss.isfinite() and loss.ndim == 0 for loss in found.losses.values())
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step(step=step)
        totals.append(found.total.item())
    assert totals[-1] < totals[0] * 0.6


def test_terms_and_weights_must_have_the_same_names():
    losses = {"contrast": torch.tensor(2.0), "distill": torch.tensor(3.0)}
    assert weighted(losses, {"contrast": 1.0, "distill": 0.5}).item() == 3.5
    with pytest.raises(ValueError, match=r"weighs \['contrast'\], the objectives gave \['contrast', 'distill'\]"):
        weighted(losses, {"contrast": 1.0})


def test_two_objectives_need_two_names(batch):
    model = tiny.model()
    learner = Learner(model, [Softmax.Config().build(model), Softmax.Config().build(model)], {"contrast": 1.0})
    with pytest.raises(ValueError, match="two objectives name a term 'contrast'"):
        learner(batch)


def test_towers_run_once_and_only_when_asked_for(batch):
    model = tiny.model()
    calls = []
    model.text_encoder.register_forward_hook(lambda *_: calls.append("text"))
    model.audio_encoder.register_forward_hook(lambda *_: calls.append("audio"))
    encoded = lapis.objectives.learner.Encoded(model, batch)
    assert calls == []
    assert encoded.audio is encoded.audio and encoded.tokens is encoded.tokens
    assert calls == ["audio"]
    assert encoded.text is encoded.text
    assert calls == ["audio", "text"]


def test_an_abstract_objective_says_so(batch):
    with pytest.raises(NotImplementedError, match="Objective must define forward"):
        Objective()(tiny.model(), batch, lapis.objectives.learner.Encoded(tiny.model(), batch))
