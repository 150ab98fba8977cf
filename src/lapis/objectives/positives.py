"""Which captions of a batch belong to a clip, as numbers and a rule: any block of the matrix can be asked for alone.

The matrix of 65,536 clips and as many captions would take 4 GB; the numbers take a few megabytes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lapis import distributed
from lapis.data.batching import Batch
from lapis.ragged import Ragged

Rule = Literal["pair", "caption"]
"""Which captions of a batch belong to a clip: the one drawn for it; or every one that is among its captions,
whichever clip drew it (captions of a class, and those that machines write, repeat: they are no negatives)."""

Gather = Literal["gathered", "ring", "local"]
"""Which captions a clip is compared with: those of all processes, each process holding all vectors; the same, each
process holding its own and seeing those of the others in turn; or only those of its own process."""

EVERYTHING = slice(None)


@dataclass(frozen=True)
class Positives:
    """A caption belongs to a clip that it was drawn for, or that owns it."""

    clips: Int[Tensor, "clips"]
    """The number of the draw of each clip (row)."""
    owned: Int[Tensor, "clips most"]
    """The numbers of the captions that each clip has, filled up with -1."""
    drawers: Int[Tensor, "texts"]
    """The number of the draw that each caption (column) came with."""
    drawn: Int[Tensor, "texts"]
    """The number of each caption; -2 where the rule does not ask."""

    def block(self, clips: slice, texts: slice) -> Bool[Tensor, "clips_of_block texts_of_block"]:
        """Which of these captions belong to which of these clips."""
        belongs = self.clips[clips, None] == self.drawers[None, texts]
        for owned in self.owned[clips].unbind(1):
            belongs |= owned[:, None] == self.drawn[None, texts]
        return belongs

    def matrix(self) -> Bool[Tensor, "clips texts"]:
        """The whole matrix."""
        return self.block(EVERYTHING, EVERYTHING)


def positives(batch: Batch, *, rule: Rule, device: torch.device, gather: Gather = "gathered") -> Positives:
    """The rule's numbers for a batch; with "ring" the rows are this process's clips, the columns all captions."""
    clips = torch.tensor([draw.number for draw in batch.draws], device=device)
    drawers = clips if gather == "local" else distributed.gather(clips)
    if rule == "pair":
        rows = clips if gather == "ring" else drawers
        return Positives(rows, rows.new_empty(len(rows), 0), drawers, torch.full_like(drawers, -2))
    drawn = torch.tensor([_number(caption) for caption in batch.captions], device=device)
    captions = [[_number(text) for of in draw.sample.captions.values() for text in of] for draw in batch.draws]
    owned = torch.tensor([number for numbers in captions for number in numbers], device=device, dtype=torch.long)
    owned_counts = torch.tensor([len(numbers) for numbers in captions], device=device)
    if gather != "local":
        drawn = distributed.gather(drawn)
    if gather == "gathered":
        clips, owned, owned_counts = (distributed.gather(part) for part in (clips, owned, owned_counts))
    return Positives(clips, _only_drawn(owned, owned_counts.tolist(), drawn), drawers, drawn)


def _only_drawn(
    owned: Int[Tensor, "entries"], counts: Sequence[int], drawn: Int[Tensor, "texts"]
) -> Int[Tensor, "clips most"]:
    """The owned captions that somebody drew, a row a clip: of the many that clips have, few matter to a batch."""
    entries = Ragged(owned, tuple(counts))
    matters = torch.isin(owned, drawn)
    kept = torch.bincount(entries.item_of_row[matters], minlength=len(counts)).tolist()
    few = Ragged(owned[matters], tuple(kept))
    table = owned.new_full((len(counts), max(kept, default=0)), -1)
    table[few.item_of_row, few.index_in_item] = few.rows
    return table


def _number(text: str) -> int:
    """A number for a text that is the same in every process; never negative."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")
