"""Events with a beginning and an end, and the scores of frames that they are made from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Event:
    """Something that sounds from one instant to another."""

    label: str
    begin_seconds: float
    end_seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.begin_seconds < self.end_seconds < math.inf:
            raise ValueError(f"expected an event to begin at 0 or later and end after that, got {self}")


Events = Sequence[Event]
"""Of one scene."""


@dataclass(frozen=True)
class FrameScores:
    """What a system says of the frames of a scene, higher where a class is more likely heard.

    Raises:
        ValueError: a score is NaN, or the frames are not one after another.
    """

    scores: Float[np.ndarray, "_frames _classes"]
    seconds: Float[np.ndarray, "_frames 2"]
    """When each frame begins and ends."""

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.seconds) or not len(self.scores):
            raise ValueError(f"expected frames with times, got {len(self.scores)} frames and {len(self.seconds)} times")
        if np.isnan(self.scores).any():
            frame, of = np.argwhere(np.isnan(self.scores))[0]
            raise ValueError(f"the score of class {of} in frame {frame} is NaN")
        if (np.diff(self.seconds, axis=0) < 0).any() or (self.seconds[:, 0] >= self.seconds[:, 1]).any():
            raise ValueError("expected frames in the order of time, each ending after it begins")


def events_of(
    frames: FrameScores,
    *,
    classes: Sequence[str],
    threshold: float | Float[np.ndarray, "classes"],
    until: float | Float[np.ndarray, "classes"] | None = None,
) -> list[Event]:
    """Runs of frames whose score is at least a threshold, that of all classes or of each; class by class.

    With a lower threshold `until`, a run goes on as far as the scores reach that, to both sides.
    """
    found = []
    sure = frames.scores >= threshold
    heard = np.pad(sure if until is None else frames.scores >= until, ((1, 1), (0, 0)))
    changes = heard[1:] != heard[:-1]
    for number, label in enumerate(classes):
        turns = np.flatnonzero(changes[:, number])
        for begin, end in turns.reshape(-1, 2):
            if sure[begin:end, number].any():
                found.append(Event(label, float(frames.seconds[begin, 0]), float(frames.seconds[end - 1, 1])))
    return found
