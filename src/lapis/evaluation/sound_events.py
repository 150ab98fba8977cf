"""By how many events with a beginning and an end two lists agree.

The definitions are those of sed_eval (Mesaros, Heittola and Virtanen 2016, doi:10.3390/app6060162): event by event
within a collar, or segment by segment.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from lapis.search.events import Event, Events


@dataclass(frozen=True)
class Counts:
    """Of each scene and class; a hit is an event or segment that both lists have."""

    hits: Int[np.ndarray, "_scenes _classes"]
    reference: Int[np.ndarray, "_scenes _classes"]
    estimated: Int[np.ndarray, "_scenes _classes"]


def f1_by_class(
    hits: Float[np.ndarray, "*shape"] | Int[np.ndarray, "*shape"],
    *,
    reference: Float[np.ndarray, "*shape"] | Int[np.ndarray, "*shape"],
    estimated: Float[np.ndarray, "*shape"] | Int[np.ndarray, "*shape"],
) -> Float64[np.ndarray, "*shape"]:
    """The harmonic mean of precision and recall; NaN where there is nothing in either list."""
    both = np.asarray(reference + estimated, np.float64)
    return np.divide(2.0 * hits, both, out=np.full(both.shape, np.nan), where=both > 0)


def heard_in_frames(
    events: Events, *, seconds: Float[np.ndarray, "frames 2"], classes: Sequence[str]
) -> Bool[np.ndarray, "frames classes"]:
    """Whether the middle of each frame lies within an event of each class."""
    middles = seconds.mean(axis=1)
    heard = np.zeros((len(middles), len(classes)), dtype=bool)
    for event in events:
        heard[(middles >= event.begin_seconds) & (middles < event.end_seconds), classes.index(event.label)] = True
    return heard


def count_events(
    reference: Sequence[Events],
    *,
    estimated: Sequence[Events],
    classes: Sequence[str],
    collar_seconds: float = 0.2,
    offset_share: float = 0.2,
) -> Counts:
    """Event by event: a hit has the label, begins within the collar and ends within it or a share of the event.

    As many pairs as can be formed are, each event being in one at most.

    Args:
        reference: what sounds, of each scene.
        estimated: what a system says, of each scene.
        classes: their labels.
        collar_seconds: by which a beginning may differ.
        offset_share: of the reference's length, by which an end may differ if that is more than the collar.

    Raises:
        ValueError: there are not as many scenes on both sides, or a label is not among the classes.
    """

    def hits(true: Events, said: Events) -> int:
        def agree(first: Event, second: Event) -> bool:
            length = first.end_seconds - first.begin_seconds
            return abs(first.begin_seconds - second.begin_seconds) <= collar_seconds and abs(
                first.end_seconds - second.end_seconds
            ) <= max(collar_seconds, offset_share * length)

        return _most_pairs([[number for number, other in enumerate(said) if agree(one, other)] for one in true])

    return _counted(reference, estimated, classes, lambda true, said: (hits(true, said), len(true), len(said)))


def count_segments(
    reference: Sequence[Events],
    *,
    estimated: Sequence[Events],
    classes: Sequence[str],
    segment_seconds: float = 1.0,
) -> Counts:
    """Segment by segment: a class sounds in each segment that one of its events touches.

    Raises:
        ValueError: see `count_events`.
    """

    def touched(events: Events) -> set[int]:
        return {
            segment
            for event in events
            for segment in range(
                math.floor(event.begin_seconds / segment_seconds), math.ceil(event.end_seconds / segment_seconds)
            )
        }

    def count(true: Events, said: Events) -> tuple[int, int, int]:
        one, other = touched(true), touched(said)
        return len(one & other), len(one), len(other)

    return _counted(reference, estimated, classes, count)


def _counted(
    reference: Sequence[Events],
    estimated: Sequence[Events],
    classes: Sequence[str],
    count: Callable[[Events, Events], tuple[int, int, int]],
) -> Counts:
    if len(reference) != len(estimated):
        raise ValueError(f"expected events of as many scenes, got {len(reference)} and {len(estimated)}")
    number_of = {label: number for number, label in enumerate(classes)}
    table = np.zeros((3, len(reference), len(classes)), dtype=np.int64)
    for scene, lists in enumerate(zip(reference, estimated)):
        by_label: dict[str, tuple[list[Event], list[Event]]] = {}
        for side, events in enumerate(lists):
            for event in events:
                if event.label not in number_of:
                    raise ValueError(f"scene {scene} has an event {event.label!r}, which is not among the classes")
                by_label.setdefault(event.label, ([], []))[side].append(event)
        for label, (true, said) in by_label.items():
            table[:, scene, number_of[label]] = count(true, said)
    return Counts(*table)


def _most_pairs(partners: Sequence[Sequence[int]]) -> int:
    """How many can have a partner of their own among those they agree with, by augmenting paths."""
    taken_by: dict[int, int] = {}

    def place(one: int, tried: set[int]) -> bool:
        for partner in partners[one]:
            if partner not in tried:
                tried.add(partner)
                if partner not in taken_by or place(taken_by[partner], tried):
                    taken_by[partner] = one
                    return True
        return False

    return sum(place(one, set()) for one in range(len(partners)))
