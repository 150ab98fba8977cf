"""The stages of M2D-CLAP: their figures, and one after another on a tiny encoder."""

import json
from dataclasses import replace

import pytest
import torch

from data.corpus import tones, write_tar
from lapis import recipe as recipes
from lapis import saved
from lapis.layers.masking import Masking
from lapis.recipes.m2d_clap import m2d_clap
from lapis.train.optim import Cosine, Lars

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


def test_the_published_figures_of_fine_tuning():
    recipe = m2d_clap("1.1", after="before")
    (part,) = recipe.data.parts
    assert part.balanced_draws == 200_000 and recipe.budget.clips == 64
    assert recipe.training.steps == 70 * 3125 == 70 * part.balanced_draws // 64
    assert recipe.schedule == Cosine(peak=2.0, warmup_steps=15 * 3125, end=1e-7)
    assert recipe.optimizer == Lars(momentum=0.9, weight_decay=0.0) and recipe.seed == 43
    encoder, (objective,) = recipe.model.audio, recipe.objectives
    assert (encoder.classes, encoder.columns, encoder.chunk_frames) == (527, 62, 1001)
    assert (encoder.augment.bands, encoder.augment.time_frames) == (30, 192)
    assert 1001 * encoder.augment.time_share >= 192  # a whole clip's mask is as wide as in the paper
    assert objective.mixup == 0.5 and objective.kind == "multi-label"
    assert objective.masking == Masking(ratio=0.5, shape="structured")
    released = m2d_clap("1.1", after="before", departures="as_released").objectives[0]
    assert released == replace(objective, masking=replace(objective.masking, inverted=True), complete_to=1001)


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
    """Stage 1.1 moves the encoder, stage 2 all but the encoder, and stage 2.1 goes on from where it stopped."""
    folders = {stage: tmp_path / stage for stage in ("1", "1.1", "2", "2.1")}
    before = None
    for stage, folder in folders.items():
        recipe = m2d_clap(stage, form="pocket", after=before and str(before))
        settings = (*TINY, *TWO_STEPS, *(("model.width=24",) if stage == "1.1" else ()))
        assert recipes.run(recipes.override(recipe, settings), folder=folder).step == 2
        before = folder
    states = {stage: saved.open(folder).state_dict() for stage, folder in folders.items()}
    head = {name for name in states["1.1"] if ".head." in name}
    assert len(head) == 5 and states["1.1"].keys() - head < states["1"].keys()
    assert not head & states["2"].keys()
    for name in states["1.1"].keys() - head:
        fixed = name == "audio_encoder.positions"
        assert torch.equal(states["1.1"][name], states["1"][name]) == fixed, name
    for name, tensor in states["2"].items():
        frozen = name.startswith("audio_encoder.") and ".semantic." not in name
        assert not frozen or torch.equal(states["1.1"][name], tensor), name
        assert torch.equal(states["2.1"][name], tensor) == frozen, name


def test_classes_of_the_small_form_are_those_of_its_corpus(tmp_path):
    """One of a clip, each of them measured, and the head that a run saves tells them apart."""
    before = tmp_path / "1"
    recipes.run(recipes.override(m2d_clap(form="pocket"), (*TINY, *TWO_STEPS)), folder=before)
    recipe = m2d_clap("1.1", form="pocket", after=str(before))
    assert recipes.loads(recipes.dumps(recipe)) == recipe
    (objective,) = recipe.objectives
    assert objective.kind == "single-label" and len(objective.classes) == recipe.model.audio.classes == 59
    settings = [setting for setting in TWO_STEPS if setting != "checks=[]"]
    small = recipes.override(recipe, (*TINY, *settings, "model.width=24", "training.keep_best=music accuracy"))
    assert recipes.run(small, folder=tmp_path / "1.1").best is not None
    lines = [json.loads(line) for line in (tmp_path / "1.1" / "log.jsonl").read_text().splitlines()]
    (scores,) = [line["validation"] for line in lines if "validation" in line]
    assert scores.keys() == {"sound accuracy", "music accuracy"}
    assert saved.open(tmp_path / "1.1").audio_encoder.head.linear.out_features == 59


def test_the_paper_form_of_fine_tuning_reads_its_classes_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    (tmp_path / "audioset").mkdir()
    sounds = {
        f"{number}": (sound, words | {"label": f"Tone, {number % 3};Music"})
        for number, (sound, words) in enumerate(tones(8).values())
    }
    write_tar(tmp_path / "audioset" / "train-0.tar", sounds)
    (tmp_path / "audioset" / "classes.txt").write_text("Music\nTone, 0\nTone, 1\nTone, 2\n", encoding="utf-8")
    settings = (*TINY, "model.width=24", "model.audio.classes=4", "data.parts.0.balanced_draws=6", "reading.workers=0")
    recipe = replace(m2d_clap("1.1", after="before"), after=None)
    small = recipes.override(recipe, (*settings, *TWO_STEPS))
    assert recipes.run(small, folder=tmp_path / "run").step == 2
    # AudioSet's own tables have labels and no caption.
    bare = {
        key: (sound, {name: of for name, of in words.items() if name != "captions"})
        for key, (sound, words) in sounds.items()
    }
    write_tar(tmp_path / "audioset" / "train-0.tar", bare)
    assert recipes.run(small, folder=tmp_path / "bare").step == 2
    write_tar(tmp_path / "audioset" / "train-0.tar", bare | {"8": (bare["0"][0], {"label": "Tone, 9"})})
    with pytest.raises(
        ValueError, match="1 clips cannot be learned from: clip 8 has label 'Tone, 9', which is none of"
    ):
        recipes.run(small, folder=tmp_path / "unknown")
    assert not list((tmp_path / "unknown").glob("checkpoint-*"))
