"""Everything variable in length: rows of all items in one flat tensor, plus the length of each item.

Clips are never padded to each other. Where a kernel wants padding, the padding is made and removed inside the file of
that kernel. Layout and words follow `torch.nn.attention.varlen`, which calls `offsets` cumulative sequence lengths.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """`rows` of all items, one item after another, and `lengths`, the number of rows of each item.

    `lengths` are plain integers on the host: loops, kernels and shapes need them there, and reading them back from a
    device would make the device wait.

    Raises:
        ValueError: the lengths do not add up to the rows, or one is negative.
    """

    rows: Tensor
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(length < 0 for length in self.lengths) or sum(self.lengths) != len(self.rows):
            raise ValueError(f"lengths {self.lengths} must be non-negative and add up to the {len(self.rows)} rows")

    @classmethod
    def pack(cls, items: Sequence[Tensor]) -> "Ragged":
        """Lay items, each of shape (length, ...), one after another.

        Raises:
            ValueError: there is no item, so that the shape of a row is unknown.
        """
        if not items:
            raise ValueError("cannot pack an empty list of items: the shape of a row would be unknown")
        return cls(torch.cat(list(items)), tuple(len(item) for item in items))

    def __len__(self) -> int:
        return len(self.lengths)

    def split(self) -> list[Tensor]:
        """The items again, as views: the inverse of `pack`."""
        return list(self.rows.split(self.lengths))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Ragged":
        """Apply a function that keeps the number of rows (a norm, a linear layer) to all rows at once."""
        return Ragged(function(self.rows), self.lengths)

    def to(self, device: torch.device | str) -> "Ragged":
        """The same items with their rows on another device."""
        return Ragged(self.rows.to(device, non_blocking=True), self.lengths)

    def take(self, items: Sequence[int]) -> "Ragged":
        """The items of these numbers, in this order."""
        if list(items) == list(range(len(self))):
            return self
        split = self.split()
        return Ragged.pack([split[item] for item in items])

    def cut(self, most: int) -> "Ragged":
        """The same rows as more items: each item in pieces of `most` rows and what is left. Copies nothing."""
        pieces = []
        for length in self.lengths:
            whole, left = divmod(length, most)
            pieces += [most] * whole + ([left] if left or not whole else [])
        return Ragged(self.rows, tuple(pieces))

    def first(self, lengths: Sequence[int]) -> "Ragged":
        """Only the first so many rows of each item."""
        if tuple(lengths) == self.lengths:
            return self
        return Ragged.pack([item[:length] for item, length in zip(self.split(), lengths, strict=True)])

    def at_least(self, length: int) -> "Ragged":
        """Every item shorter than `length` completed with zeros at its end."""
        if min(self.lengths, default=length) >= length:
            return self
        return Ragged.pack([_completed(item, length) for item in self.split()])

    def prepend(self, row: Tensor) -> "Ragged":
        """The same row before the rows of every item."""
        return Ragged(
            torch.cat([part for item in self.split() for part in (row[None].to(item.dtype), item)]),
            tuple(length + 1 for length in self.lengths),
        )

    def without_first(self, count: int = 1) -> "Ragged":
        """Every item without its first rows; of one row the inverse of `prepend`."""
        return Ragged.pack([item[count:] for item in self.split()]) if count else self

    def groups(self, most_rows: int) -> Iterator["Ragged"]:
        """The items in their order, in groups of at most so many rows (a longer item goes alone), as views."""
        begin = 0
        for lengths in _grouped(self.lengths, most_rows):
            yield Ragged(self.rows[begin : begin + sum(lengths)], lengths)
            begin += sum(lengths)

    @property
    def offsets(self) -> Int[Tensor, "items_plus_one"]:
        """Where each item begins, and where the last one ends; int32, on the device of the rows."""
        return torch.tensor((0, *self.lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32).to(self.rows.device)

    @property
    def item_of_row(self) -> Int[Tensor, "rows"]:
        """For each row the number of its item."""
        lengths = torch.tensor(self.lengths, device=self.rows.device)
        return torch.repeat_interleave(torch.arange(len(self), device=self.rows.device), lengths)

    @property
    def index_in_item(self) -> Int[Tensor, "rows"]:
        """For each row its number within its item, from 0."""
        begins = self.offsets[:-1].long()
        return torch.arange(len(self.rows), device=self.rows.device) - begins[self.item_of_row]

    def mean(self) -> Float[Tensor, "items *row"]:
        """The mean row of each item.

        Raises:
            ValueError: an item has no rows, so it has no mean.
        """
        if 0 in self.lengths:
            raise ValueError(f"item {self.lengths.index(0)} has no rows, so it has no mean")
        # Summed in float32: a sum of hundreds of rows in half precision loses the later ones.
        flat = self.rows.reshape(len(self.rows), -1).to(torch.promote_types(self.rows.dtype, torch.float32))
        lengths = torch.tensor(self.lengths, device=flat.device)
        means = torch.segment_reduce(flat, "mean", lengths=lengths, axis=0, unsafe=True)
        return means.to(self.rows.dtype).reshape(len(self), *self.rows.shape[1:])


def _completed(item: Tensor, length: int) -> Tensor:
    missing = length - len(item)
    return torch.cat([item, item.new_zeros(missing, *item.shape[1:])]) if missing > 0 else item


def _grouped(lengths: Sequence[int], most_rows: int) -> Iterator[tuple[int, ...]]:
    group: list[int] = []
    for length in lengths:
        if group and sum(group) + length > most_rows:
            yield tuple(group)
            group = []
        group.append(length)
    if group:
        yield tuple(group)
