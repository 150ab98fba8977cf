"""SLAP's recipe: what the paper states, the stages after it, and its small forms, run."""

from dataclasses import replace

import pytest
import torch

from lapis import recipe as recipes
from lapis.audio_encoders.slap import Slap
from lapis.objectives.caption import Caption
from lapis.objectives.distill import Distill
from lapis.recipes.slap import slap
from lapis.text_encoders.huggingface import HuggingFace
from lapis.train.after import After

SMALL = (
    "model.audio.width=24",
    "model.audio.depth=3",
    "model.audio.heads=2",
    "model.audio.hidden=24",
    "budget.clips=6",
    "training.steps=2",
    "checks=[]",
    "threads=1",
)


def test_it_is_as_published():
    recipe = slap()
    assert recipe.weights == {"contrast": 1.0, "distill": 1.0, "caption": 0.5}
    assert recipe.training.steps == 109_000_000 * 2 // 2048
    assert (recipe.schedule.peak, recipe.schedule.warmup_steps) == (1e-4, 2000)
    assert recipe.budget.clips * 32 == 2048 and recipe.budget.clip_seconds == 30.0
    assert slap(processes=8).budget.clips == 256
    audio = recipe.model.audio
    assert (audio.width, audio.depth, audio.heads, audio.hidden, audio.local_layers) == (768, 12, 12, 3072, 2)
    _, distill, caption = recipe.objectives
    assert (distill.masked, distill.momentum, distill.end_momentum) == (0.5, 0.994, 1.0)
    assert (caption.depth, caption.heads, caption.width) == (8, 8, 512)


@pytest.mark.parametrize("form", ["paper", "pool", "pocket"])
@pytest.mark.parametrize("stage", ["pretraining", "wavcaps", "retrieval", "captioning"])
def test_the_steps_of_self_distillation_are_those_of_the_run(stage, form):
    recipe = slap(stage, form=form, after=None if stage == "pretraining" else "before")
    assert recipes.loads(recipes.dumps(recipe)) == recipe
    for objective in recipe.objectives:
        if isinstance(objective, Distill.Config):
            assert objective.steps == recipe.training.steps
    assert (recipe.after is None) == (stage == "pretraining")
    assert len(recipe.objectives) == len(recipe.weights) == (3 if stage in ("pretraining", "wavcaps") else 1)


def test_stages_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="retrieval needs after=: the folder of pretraining, got after=None"):
        slap("retrieval")
    with pytest.raises(ValueError, match="pretraining begins with nothing, got after='x'"):
        slap(after="x")
    with pytest.raises(ValueError, match="expected a divisor of the 2048 clips of a batch, got 3"):
        slap(processes=3)


SHALLOW_MODERN_BERT = {
    "model_type": "modernbert",
    "vocab_size": 50_368,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_hidden_layers": 1,  # of 22: this tower is not on the meta device, and would fill memory
    "num_attention_heads": 12,
}


def test_full_size_on_the_meta_device():
    """Of the tower, of what contrast learns beside it, of the head, of the decoder with ModernBERT's vocabulary."""
    pytest.importorskip("transformers")
    recipe = slap()
    text = recipe.model.text
    assert isinstance(text, HuggingFace.Config)
    config = replace(recipe.model, text=replace(text, fresh=True, architecture=SHALLOW_MODERN_BERT))
    with torch.device("meta"):
        model = config.build()
        counts = [
            sum(p.numel() for p in objective.build(model).parameters() if p.requires_grad)
            for objective in recipe.objectives
        ]
    assert sum(p.numel() for p in model.audio_encoder.parameters()) == 113_462_016 + 9_438_720
    assert counts == [1, 769 * 2048 + 2049 * 2048 + 2049 * 256 + 16_384 * 256 + 768, 50_368 * 512 + 35_697_152]


def _shrunk(objective):
    if isinstance(objective, Distill.Config):
        return replace(objective, hidden=16, prototypes=16)
    return replace(objective, width=16, hidden=16) if isinstance(objective, Caption.Config) else objective


def _small(recipe):
    objectives = tuple(_shrunk(objective) for objective in recipe.objectives)
    return recipes.override(replace(recipe, objectives=objectives), SMALL)


def test_stages_run_one_after_another(tmp_path):
    folder = tmp_path / "pretraining"
    recipes.run(_small(slap(form="pocket")), folder=folder)
    for stage in ("retrieval", "captioning"):
        recipe = _small(slap(stage, form="pocket", after=str(folder)))
        assert isinstance(recipe.model.audio, Slap.Config) and isinstance(recipe.after, After)
        assert recipes.run(recipe, folder=tmp_path / stage).step == 2
