"""The pocket recipe: the first light. A small SLAP tower learns from the corpus that ships with the repository.

Two processor cores and a few minutes. The text side is a frozen multilingual sentence encoder, so that words in a
language that no caption was written in can find sounds too.
"""

from dataclasses import replace

from lapis.audio_encoders.slap import Slap
from lapis.data.batching import Budget
from lapis.data.loader import Reading
from lapis.data.mixture import Mixture, Part
from lapis.datasets.pocket import Pocket
from lapis.evaluation.retrieval import Retrieval
from lapis.layers import spectrogram
from lapis.model import JointModel
from lapis.objectives.contrast import Softmax
from lapis.recipe import Check, Recipe
from lapis.text_encoders.sentence import MULTILINGUAL_USE, Sentence
from lapis.train.loop import Training
from lapis.train.optim import AdamW, Cosine


def pocket() -> Recipe:
    """Softmax contrast on balanced domains, a caption counted for every clip that has it.

    The sound is brought to where the texts are: a learned projection of the texts would fit the few hundred captions
    and forget the rest of what the sentence encoder knows.
    """
    return Recipe(
        name="pocket",
        model=JointModel.Config(
            audio=Slap.Config(
                front_end=replace(spectrogram.SLAP, mean=-3.3, deviation=4.8),
                width=192,
                depth=4,
                heads=6,
                hidden=384,
            ),
            text=Sentence.Config(MULTILINGUAL_USE, width=512),
            width=512,
            text_projection=None,
        ),
        objectives=(Softmax.Config(positives="caption"),),
        weights={"contrast": 1.0},
        data=Mixture.Config(
            parts=(
                Part(Pocket("train", "sound"), weight=1.0),
                Part(Pocket("train", "music"), weight=1.0),
                Part(Pocket("train", "speech"), weight=1.0),
            ),
        ),
        checks=(
            Check("sound", Pocket("val", "sound"), Retrieval("label")),
            Check("music", Pocket("val", "music"), Retrieval("label")),
            Check("speech", Pocket("val", "speech"), Retrieval("transcript")),
        ),
        budget=Budget(clips=64, seconds=200.0, clip_seconds=5.0),
        # No worker: two cores have no room for one beside the training itself, and every clip is decoded only once.
        reading=Reading(workers=0, keep_bytes=2 << 30),
        optimizer=AdamW(weight_decay=0.1),
        schedule=Cosine(peak=1e-3, warmup_steps=50),
        training=Training(steps=800, validate_every=200, save_every=200),
        threads=2,
    )
