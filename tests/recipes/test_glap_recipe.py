"""GLAP's recipe: what the paper and the released configuration state, what it begins with, and its small forms, run."""

import json
from dataclasses import replace

import pytest
import torch
from sentencepiece import SentencePieceTrainer

from lapis import recipe as recipes
from lapis import saved
from lapis.data.loader import Loader
from lapis.datasets.pocket import Pocket
from lapis.model import JointModel
from lapis.objectives.contrast import GLAP, GLAP_AS_RELEASED
from lapis.recipes.glap import TRANSLATIONS, glap
from lapis.text_encoders.sentence import MULTILINGUAL_USE, Sentence
from lapis.text_encoders.sonar import Sonar
from lapis.train.after import After, Towers
from lapis.train.optim import AdamW, Constant

TINY = (
    "model.audio.width=24",
    "model.audio.depth=1",
    "model.audio.heads=2",
    "model.audio.hidden=24",
    "budget.clips=8",
    "checks=[]",
    "threads=1",
)


def test_it_is_as_described():
    recipe = glap()
    assert recipe.budget.clips * 8 == 1024 == glap(processes=1).budget.clips
    assert recipe.training.steps == 20 * 10_000 and recipe.training.precision == "float16"
    assert recipe.training.clip_norm == 1.0 and recipe.budget.clip_seconds == 10.0
    rates = [recipe.schedule(step, steps=200_000) for step in (0, 19_999, 20_000, 110_000, 199_999)]
    assert rates == pytest.approx([1e-4 / 20_000, 1e-4, 1e-4, 5.5e-5, 1e-5], rel=1e-3)
    assert recipe.optimizer == AdamW(betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.0)
    (contrast,) = recipe.objectives
    assert contrast == replace(GLAP, positives="caption") and (contrast.temperature, contrast.bias) == (0.07, -10.0)
    assert [part.weight for part in recipe.data.parts] == [1.0] * 4
    assert recipe.model.text.trainable and recipe.model.audio.band_momentum == 0.01
    assert recipe.data.captions.max_characters == 180 and recipe.data.captions.transcripts


def test_as_released():
    described, released = glap(), glap(departures="as_released")
    assert released.budget.clips == 64 == glap(departures="as_released", processes=2).budget.clips
    assert released == replace(
        described,
        objectives=(GLAP_AS_RELEASED,),
        budget=released.budget,
        schedule=replace(described.schedule, warmup_steps=1000),
    )
    small = glap(form="pocket", departures="as_released")
    assert small.objectives[0] == replace(GLAP_AS_RELEASED, learned="log_scale") and small.schedule.warmup_steps == 3


@pytest.mark.parametrize("form", ["paper", "pool", "pocket"])
@pytest.mark.parametrize("captions", ["translated", "english"])
def test_every_form_is_a_value(form, captions):
    recipe = glap(form=form, captions=captions)
    assert recipes.loads(recipes.dumps(recipe)) == recipe == recipes.find("glap", form=form, captions=captions)
    wanted = {"eng_Latn", *TRANSLATIONS} if captions == "translated" else {"eng_Latn"}
    assert set(recipe.data.captions.languages) == wanted
    assert isinstance(recipe.after, Towers) == (form == "paper")
    assert glap(form=form, captions=captions, after="before") == replace(recipe, after=After("before", take=("",)))
    sounds = sum(part.weight for part in recipe.data.parts if "speech" not in str(part))
    assert sounds / sum(part.weight for part in recipe.data.parts) == pytest.approx(1 / 4 if form == "paper" else 2 / 3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected a divisor of the 1024 clips of a batch, got 3"):
        glap(processes=3)
    with pytest.raises(ValueError, match="captions must be one of 'translated', 'english', got 'german'"):
        recipes.find("glap", captions="german")


def test_full_size_on_the_meta_device():
    with torch.device("meta"):
        model = JointModel(glap().model)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 855_475_328


def test_without_published_towers_it_says_what_to_do(tmp_path, monkeypatch):
    """The tower is small here: the one of the paper has no need to be built to see that the file is not there."""
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    recipe = replace(
        glap(), model=replace(glap(form="pocket").model, text=Sentence.Config(MULTILINGUAL_USE, width=512))
    )
    with pytest.raises(ValueError, match=r"glap/dasheng_base\.pt: expected the published weights of the audio tower.*"):
        recipes.run(recipe, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def sonar(tmp_path):
    """A small text tower with a tokenizer of its own."""
    words = sorted({text for sample in Pocket("val").build() for of in sample.captions.values() for text in of})
    (tmp_path / "words.txt").write_text("\n".join(words), encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(tmp_path / "words.txt"),
        model_prefix=str(tmp_path / "pieces"),
        vocab_size=800,
        model_type="bpe",
        minloglevel=2,
    )
    tokenizer = str(tmp_path / "pieces.model")
    return Sonar.Config(vocabulary=800 + 206, width=64, depth=1, heads=1, hidden=24, tokenizer=tokenizer)


def test_the_paper_form_takes_its_first_steps_on_other_tars(tmp_path, sonar):
    """Both towers learn, in half precision, from four groups with translated captions. The first steps of float16 look
    for the scale of the loss and move nothing."""
    tars = [f"data.parts.{part}.source.pattern=pocket/pocket-val-*.tar" for part in range(4)]
    recipe = replace(glap(), model=replace(glap().model, text=sonar), schedule=Constant(peak=1e-3))
    settings = (*TINY, *tars, "model.width=24", "reading.workers=0", "after=null", "training.steps=6")
    recipe = recipes.override(recipe, settings)
    assert recipes.run(recipe, folder=tmp_path / "run").step == 6
    torch.manual_seed(recipe.seed)
    before, after = recipe.model.build(), saved.open(tmp_path / "run").state_dict()
    moved = {name.split(".")[0] for name, p in before.named_parameters() if not torch.equal(p, after[name])}
    assert moved == {"audio_encoder", "text_encoder", "audio_projection", "text_projection"}


def _batch(recipe, *, position):
    mixture = recipe.data.build(seed=recipe.seed)
    return next(Loader(mixture, budget=recipe.budget, sample_rate=16_000, reading=recipe.reading).batches(position))


def test_evaluation_hears_what_training_hears(tmp_path):
    """A few steps are enough for the running statistics of the bands, and the loss falls."""
    settings = (*TINY, "budget.clips=24", "training.steps=8", "schedule.warmup_steps=1", "schedule.peak=5e-3")
    recipe = recipes.override(glap(form="pocket"), settings)
    recipes.run(recipe, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    totals = [line["total"] for line in lines if "total" in line]
    assert len(totals) == 8 and totals[-1] < 0.8 * totals[0]
    batch, model = _batch(recipe, position=192), saved.open(tmp_path)
    with torch.no_grad():
        evaluated = model.project_audio(model.audio_tokens(batch.waveforms))
        trained = model.train().project_audio(model.audio_tokens(batch.waveforms))
    assert (evaluated * trained).sum(1).min() > 0.95


def test_speech_is_told_by_its_words_and_sounds_are_now_and_then_in_other_languages():
    recipe = glap(form="pocket")
    mixture = recipe.data.build(seed=0)
    draws = [mixture[number] for number in range(3000)]
    words = [mixture.choose_caption(draw) for draw in draws]
    speech = [(draw, text) for draw, text in zip(draws, words) if draw.sample.domain == "speech"]
    assert len(speech) == pytest.approx(1000, abs=2)
    assert sum(draw.sample.language == "eng_Latn" for draw, _ in speech) == pytest.approx(500, abs=2)
    assert all(" ".join(draw.sample.transcript.split()) == text for draw, text in speech)
    sounds = [(draw, text) for draw, text in zip(draws, words) if draw.sample.domain != "speech"]
    foreign = sum(text not in draw.sample.captions["eng_Latn"] for draw, text in sounds)
    # Five of the seven languages are in this corpus: 5 / 7 of 0.1 beside each English caption.
    expected = 0.1 * 5 / 7 / (1 + 0.1 * 5 / 7) * len(sounds)
    assert foreign == pytest.approx(expected, abs=4 * expected**0.5)
