"""Batches whose captions matter and whose sound does not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lapis.data.batching import Batch, Draw
from lapis.data.sample import Location, Sample
from lapis.ragged import Ragged


def batch_of(
    captions: Sequence[str], more: Mapping[int, Sequence[str]] | None = None, *, first: int = 0, own: bool = True
) -> Batch:
    """Clips that drew `captions`, numbered from `first`; each also has those of `more`, by its number."""
    draws = []
    for number, caption in enumerate(captions, start=first):
        texts = ((caption,) if own else ("something else",)) + tuple((more or {}).get(number, ()))
        draws.append(Draw(number, Sample(f"clip{number}", Location(Path("nowhere")), {"eng_Latn": texts})))
    waveforms = Ragged(torch.zeros(len(captions)), (1,) * len(captions))
    return Batch(waveforms, tuple(captions), tuple(draws), first + len(captions))
