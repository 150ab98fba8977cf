"""The stages of M2D-CLAP: their figures, and one after another on a tiny encoder."""

from dataclasses import replace

import pytest
import torch

from lapis import recipe as recipes
from lapis import saved
from lapis.recipes.m2d_clap import m2d_clap

TINY = ("model.audio.width=24", "model.audio.depth=1", "model.audio.heads=2", "model.audio.hidden=24")
TWO_STEPS = ("budget.clips=6", "training.steps=2", "checks=[]", "threads=1")


@pytest.mark.parametrize(
    ("stage", "clips", "epochs", "peak", "warmup_epochs"),
    [("1", 2_532_215, 300, 2.4e-3, 20), ("2", 2_585_227, 30, 2.4e-5, 5), ("2.1", 439_743, 30, 2.4e-5, 5)],
)
def test_the_published_figures(stage, clips, epochs, peak, warmup_epochs):
    recipe = m2d_clap(stage, after=None if stage == "1" else "before")
    steps_an_epoch = recipe.training.steps / epochs
    assert steps_an_epoch == clips // (4 * recipe.budget.clips)
    assert sum(part.weight for part in recipe.data.parts) == clips
    assert recipe.schedule.peak == peak and recipe.schedule.warmup_steps == warmup_epochs * steps_an_epoch
    frames = recipe.model.audio.front_end.num_frames(round(recipe.budget.clip_seconds * 16_000))
    assert frames == recipe.model.audio.chunk_frames == (608 if stage == "1" else 1001)


def test_as_released():
    assert m2d_clap().weights == {"masked": 1.0, "contrast": 0.01}
    assert m2d_clap(departures="as_released").weights["contrast"] == 0.01 / 4
    described, released = (
        m2d_clap("2", after="before", departures=form).objectives[0] for form in ("as_described", "as_released")
    )
    assert released == replace(described, masking=replace(described.masking, inverted=True), complete_to=1001)


def test_stages_need_each_other():
    with pytest.raises(ValueError, match="stage 2 needs after=: the folder before it"):
        m2d_clap("2")
    with pytest.raises(ValueError, match="stage 1 begins with nothing, got after='before'"):
        m2d_clap(after="before")


def test_the_paper_form_takes_its_first_steps_on_other_tars(tmp_path):
    texts = ("model.width=24", "model.text.name=use-multilingual-v3", "model.text.width=512")
    tars = [f"data.parts.{part}.source.pattern=pocket/pocket-train-*.tar" for part in range(3)]
    predictor = ("objectives.0.width=16", "objectives.0.depth=1", "objectives.0.heads=2")
    recipe = recipes.override(m2d_clap(), (*TINY, *TWO_STEPS, *texts, *tars, *predictor, "reading.workers=0"))
    assert recipes.run(recipe, folder=tmp_path).step == 2


@pytest.mark.parametrize("form", ["pocket", "pool"])
def test_small_forms_are_values(form):
    recipe = m2d_clap("2", form=form, after="before")
    assert recipes.loads(recipes.dumps(recipe)) == recipe
    assert all(domain in str(part) for domain, part in zip(("sound", "music", "speech"), recipe.data.parts))


def test_one_stage_after_another(tmp_path):
    """Stage 2 moves all but the encoder, and stage 2.1 goes on from where it stopped."""
    folders = {stage: tmp_path / stage for stage in ("1", "2", "2.1")}
    before = None
    for stage, folder in folders.items():
        recipe = m2d_clap(stage, form="pocket", after=before and str(before))
        assert recipes.run(recipes.override(recipe, (*TINY, *TWO_STEPS)), folder=folder).step == 2
        before = folder
    states = {stage: saved.open(folder).state_dict() for stage, folder in folders.items()}
    for name, tensor in states["1"].items():
        frozen = name.startswith("audio_encoder.") and ".semantic." not in name
        assert torch.equal(states["2"][name], tensor) == frozen, name
        assert torch.equal(states["2.1"][name], tensor) == frozen, name
