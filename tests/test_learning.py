"""The training run learns from sound: with the captions dealt to the wrong clips, the same recipe falls to chance."""

import random
from dataclasses import dataclass, replace

import pytest

from lapis import recipe as recipes
from lapis.data.mixture import Part
from lapis.data.sources import SourceConfig
from lapis.datasets.pocket import Pocket
from lapis.evaluation.embeddings import embed_samples
from lapis.evaluation.retrieval import Retrieval
from lapis.hub import load

REDUCED = (
    "model.audio.width=64",
    "model.audio.depth=3",
    "model.audio.heads=2",
    "model.audio.hidden=96",
    "model.audio.patch_mels=64",
    "model.audio.augment=null",
    "budget.clips=48",
    "schedule.peak=3e-3",
    "schedule.warmup_steps=10",
    "checks=[]",
    "threads=1",
)


@dataclass(frozen=True)
class Shuffled:
    """A source whose captions are dealt to other clips."""

    source: SourceConfig

    def build(self):
        samples = list(self.source.build())
        captions = [sample.captions for sample in samples]
        random.Random(0).shuffle(captions)
        return [replace(sample, captions=own) for sample, own in zip(samples, captions, strict=True)]


def _learn(steps, *, shuffle, folder):
    """mAP@10 of finding test clips by captions of their class, and what guessing would give."""
    recipe = recipes.override(recipes.find("pocket"), [*REDUCED, f"training.steps={steps}"])
    if shuffle:
        parts = tuple(Part(Shuffled(part.source), part.weight) for part in recipe.data.parts)
        recipe = replace(recipe, data=replace(recipe.data, parts=parts))
    recipes.run(recipe, folder=folder)
    scores = {}
    if shuffle:  # the recipe of a test is not one that a folder can be loaded from
        (folder / "recipe.json").write_text(recipes.dumps(recipes.override(recipes.find("pocket"), REDUCED)))
    model = load(folder)
    for domain in ("sound", "music"):
        clips = embed_samples(model, samples=Pocket("test", domain).build())
        found = Retrieval("label").run(model, clips=clips).text_to_audio
        scores[domain] = (found.mean_average_precision_at_10, found.chance_mean_average_precision_at_10)
    return scores


def _compare(steps, tmp_path, *, above):
    real = _learn(steps, shuffle=False, folder=tmp_path / "real")
    shuffled = _learn(steps, shuffle=True, folder=tmp_path / "shuffled")
    print(f"after {steps} steps: real {real}, shuffled {shuffled}")
    for domain in ("sound", "music"):
        (learned, chance), (guessed, _) = real[domain], shuffled[domain]
        assert learned > above * chance, f"{domain}: {learned:.3f}, chance {chance:.3f}"
        assert guessed < 2.5 * chance, f"{domain}: {guessed:.3f} from shuffled captions, chance {chance:.3f}"
        assert learned > 2 * guessed


def test_sound_is_learned_and_shuffled_captions_are_not(tmp_path):
    _compare(100, tmp_path, above=3)


@pytest.mark.slow
def test_sound_is_learned_and_shuffled_captions_are_not_at_length(tmp_path):
    _compare(400, tmp_path, above=6)
