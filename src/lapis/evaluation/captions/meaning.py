"""Scores by models, after FENSE (arXiv 2110.04684): how near a caption's meaning is to its references', by any sentence
embedder; and whether it is a fluent sentence, by FENSE's detector of errors where its file is given.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from lapis import weights
from lapis.evaluation.captions.overlap import Scored
from lapis.text_encoders.huggingface import HuggingFace
from lapis.text_encoders.sentence import Sentence

PENALTY = 0.9
"""Of its score that a caption with an error loses."""
THRESHOLD = 0.9
"""Of the error's probability."""
DETECTOR_TOKENS = 64


def similarity(candidates: Sequence[str], *, references: Sequence[Sequence[str]], embedder: Sentence.Config) -> Scored:
    """The cosine of a caption and a reference, the mean over a clip's references, and over clips.

    Raises:
        ValueError: the embedder cannot be had, gives vectors of another width, or one that is not finite.
    """
    sentence = embedder.build()
    texts = list(dict.fromkeys([*candidates, *(text for each in references for text in each)]))
    with torch.inference_mode():
        vectors = sentence(texts).double().numpy()
    if not np.isfinite(vectors).all():
        wrong = texts[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
        raise ValueError(f"{embedder.name} gave a vector that is not finite for {wrong!r}")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    vector_of = dict(zip(texts, vectors))
    clips = np.array(
        [
            np.mean([vector_of[candidate] @ vector_of[text] for text in each])
            for candidate, each in zip(candidates, references, strict=True)
        ],
        dtype=np.float64,
    )
    return Scored(float(clips.mean()), clips)


class Fluency(nn.Module):
    """FENSE's detector: the first token of a BERT, and a linear layer of six sorts of error, the last being any."""

    @dataclass(frozen=True)
    class Config:
        """`checkpoint`: the file that FENSE publishes. `base`: the text model it was made from, a name or a folder, of
        which the architecture and the tokenizer are taken.
        """

        checkpoint: Path
        base: str

        def build(self) -> "Fluency":
            """The detector with its weights.

            Raises:
                ValueError: the file is damaged, or does not fit the base model.
            """
            return Fluency(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        tensors = weights.read(config.checkpoint)
        weights.require(tensors, {"clf.weight": 2, "clf.bias": 1}, source=str(config.checkpoint))
        base = HuggingFace.Config(config.base, pooling="first", max_tokens=DETECTOR_TOKENS, trainable=False, fresh=True)
        with torch.random.fork_rng():
            self.text = base.build()
            self.clf = nn.Linear(self.text.width, len(tensors["clf.weight"]))
        renamed = {
            name if name.startswith("clf.") else f"text.{name}": tensor
            for name, tensor in tensors.items()
            if not name.endswith("position_ids")  # a table that older versions of transformers wrote
        }
        weights.load_strictly(self, renamed, source=str(config.checkpoint))
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def probabilities(self, captions: Sequence[str]) -> Float64[np.ndarray, "captions"]:
        """How likely each caption has an error."""
        plain = [re.sub(r"[^\w\s]", "", caption).lower() for caption in captions]
        return self.clf(self.text(plain))[:, -1].sigmoid().double().numpy()

    def fluent(self, captions: Sequence[str]) -> Scored:
        """The share of captions without an error, and for each clip one or zero."""
        clips = (self.probabilities(captions) <= THRESHOLD).astype(np.float64)
        return Scored(float(clips.mean()), clips)


def penalised(likeness: Scored, *, fluent: Scored) -> Scored:
    """FENSE: the similarity, of which a caption with an error keeps a tenth."""
    clips = likeness.clips * (1 - PENALTY * (1 - fluent.clips))
    return Scored(float(clips.mean()), clips)
