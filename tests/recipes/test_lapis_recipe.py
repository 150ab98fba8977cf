"""Our own recipe: its figures are those it takes over, its full size, and what its small form hears and learns."""

from dataclasses import replace

import pytest
import torch

from lapis import recipe as recipes
from lapis.data.loader import Loader
from lapis.objectives.duo import Duo
from lapis.objectives.learner import Learner
from lapis.recipes import glap as glap_recipe
from lapis.recipes.glap import glap
from lapis.recipes.lapis import TRANSLATIONS, lapis
from lapis.recipes.slap import slap
from lapis.text_encoders.huggingface import HuggingFace

TINY = (
    "model.audio.width=24",
    "model.audio.depth=3",
    "model.audio.heads=2",
    "model.audio.hidden=24",
    "objectives.1.width=16",
    "objectives.1.depth=1",
    "objectives.2.width=16",
    "objectives.2.hidden=16",
    "budget.clips=6",
    "checks=[]",
    "threads=1",
)


def test_it_takes_over_what_it_says():
    """Durations, batch, steps and rate of SLAP, languages of GLAP."""
    ours, theirs = lapis(), slap()
    for field in ("budget", "optimizer", "schedule", "reading"):
        assert getattr(ours, field) == getattr(theirs, field), field
    assert ours.training == theirs.training and ours.model.audio == theirs.model.audio
    assert lapis(processes=8).budget.clips == 256
    assert ours.data.captions.languages == glap().data.captions.languages and ours.data.captions.transcripts
    assert glap_recipe.TRANSLATIONS == TRANSLATIONS
    assert [part.weight for part in ours.data.parts] == [1.0] * 4
    assert ours.weights == {"contrast": 1.0, "masked": 1.0, "caption": 0.5}
    contrast, _, caption = ours.objectives
    assert (contrast.temperature, contrast.bias, contrast.positives) == (0.07, -10.0, "caption")
    assert caption == replace(theirs.objectives[2], max_tokens=ours.model.text.max_tokens)
    with pytest.raises(ValueError, match="expected a divisor of the 2048 clips of a batch, got 3"):
        lapis(processes=3)


def _left(duo):
    """How much of its own start the target has left after the steps, roughly."""
    return ((duo.decay + duo.last_decay) / 2) ** duo.steps


@pytest.mark.parametrize("form", ["paper", "pool", "pocket"])
def test_every_form_is_a_value_whose_target_follows_as_far_as_published(form):
    recipe = lapis(form=form)
    assert recipes.loads(recipes.dumps(recipe)) == recipe == recipes.find("lapis", form=form)
    duo = recipe.objectives[1]
    assert duo.steps == recipe.training.steps
    assert _left(duo) == pytest.approx(_left(Duo.Config()), rel=0.1)
    assert duo.masking == Duo.Config().masking and duo.visible is None
    assert len(recipe.data.parts) == 4
    assert recipe.objectives[0].bias == (-10.0 if form == "paper" else -4.0)


SHALLOW_XLM = {
    "model_type": "xlm-roberta",
    "vocab_size": 1000,  # of 250,002, and one layer of 12: this tower is not on the meta device, and would fill memory
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 1,
    "num_attention_heads": 12,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}


def test_full_size_on_the_meta_device():
    """Of the tower, of both projections, of each objective: scale and bias, predictor and target, the decoder."""
    pytest.importorskip("transformers")
    recipe = lapis()
    text = recipe.model.text
    assert isinstance(text, HuggingFace.Config)
    with torch.device("meta"):
        model = replace(recipe.model, text=replace(text, fresh=True, architecture=SHALLOW_XLM)).build()
        built = [objective.build(model) for objective in recipe.objectives]
    assert sum(p.numel() for p in model.audio_encoder.parameters()) == 113_462_016 + 9_438_720
    assert sum(p.numel() for part in (model.audio_projection, model.text_projection) for p in part.parameters()) == (
        2 * 768 * 768
    )
    counts = [sum(p.numel() for p in objective.parameters() if p.requires_grad) for objective in built]
    predictor = 8 * (4 * 512 * 513 + 512 * 2049 + 2048 * 513 + 4 * 512) + 2 * 512 + 769 * 512 + 513 * 768 + 512
    assert predictor == 26_008_320
    assert counts == [2, predictor, 1000 * 512 + 35_697_152]
    still = sum(p.numel() for p in built[1].parameters() if not p.requires_grad)
    assert still == 113_462_016 - 256 * 768  # the target has no patches of its own


def _batch(recipe, *, clips):
    mixture = recipe.data.build(seed=recipe.seed)
    budget = replace(recipe.budget, clips=clips, seconds=1000.0)
    return next(Loader(mixture, budget=budget, sample_rate=16_000, reading=recipe.reading).batches(0))


def test_four_groups_alike_of_any_duration():
    batch = _batch(lapis(form="pocket"), clips=32)
    samples = [draw.sample for draw in batch.draws]
    groups = [(sample.domain, sample.domain == "speech" and sample.language == "eng_Latn") for sample in samples]
    assert {groups.count(group) for group in set(groups)} == {8} and len(set(groups)) == 4
    assert len(set(batch.waveforms.lengths)) > 8
    for sample, words in zip(samples, batch.captions, strict=True):
        assert sample.domain != "speech" or words == " ".join(sample.transcript.split())


def test_all_three_terms_fall_and_everything_moves():
    """On one batch, again and again."""
    recipe = recipes.override(lapis(form="pocket"), TINY)
    torch.manual_seed(0)
    model = recipe.model.build()
    learner = Learner(model, [objective.build(model) for objective in recipe.objectives], recipe.weights)
    before = {name: value.clone() for name, value in learner.named_parameters()}
    optimizer, batch = torch.optim.AdamW(learner.parameters(), lr=3e-3), _batch(recipe, clips=12)
    losses = []
    for step in range(10):
        found = learner(batch)
        found.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step(step=step)
        losses.append({name: loss.item() for name, loss in found.losses.items()})
    for term in recipe.weights:
        assert losses[-1][term] < 0.95 * losses[0][term], term
    assert not [name for name, value in learner.named_parameters() if torch.equal(value, before[name])]
