"""What a score means: from the cosine of a text and a sound to the probability that the text is heard.

Cosines of one model are not those of another, and within a model some texts lie near everything. So a meaning is fitted
on pairs that the model has not learned from, and kept beside its weights in `calibration.json`. How near a text lies to
sounds in general is its mean cosine with a background of clips: a product with one vector, known for any new text.

Three things are told of a pair: the probability, under the share of matching pairs that the fit had or another one
that is given; the percentile, the share of unrelated pairs that score lower; and whether the text counts as heard.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float64

from lapis import __version__
from lapis.files import atomic_write
from lapis.shapes import Vectors
from lapis.values import check_choice, from_values, to_values

NAME = "calibration.json"
FORMAT = "lapis-calibration"
VERSION = 1

LEVELS = (*np.linspace(0, 0.9, 91).tolist(), *(1 - np.geomspace(0.1, 1e-5, 81)[1:]).tolist(), 1.0)
"""Of the quantiles of unrelated pairs: narrow where false alarms are rare."""
SCORE_PRECISION = 1e-6
"""Scores that differ by no more are equal."""

Kind = Literal["false alarms", "probability"]
Scores = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Logistic:
    """Log odds on a line."""

    slope: float
    offset: float

    def __post_init__(self) -> None:
        if not np.isfinite((self.slope, self.offset)).all():
            raise ValueError(f"expected a line of finite numbers, got slope {self.slope} and offset {self.offset}")

    def __call__(self, scores: Scores) -> Float64[np.ndarray, "..."]:
        """Log odds."""
        return self.slope * scores + self.offset


@dataclass(frozen=True)
class Isotonic:
    """Log odds that only rise, straight between knots and level outside of them."""

    scores: tuple[float, ...]
    log_odds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.log_odds) or not self.scores:
            raise ValueError(f"expected as many log odds as scores, got {len(self.log_odds)} and {len(self.scores)}")
        if not np.isfinite((*self.scores, *self.log_odds)).all():
            raise ValueError("expected knots of finite numbers")
        if (np.diff(self.scores) < 0).any() or (np.diff(self.log_odds) < 0).any():
            raise ValueError("expected knots whose scores and log odds do not fall")

    def __call__(self, scores: Scores) -> Float64[np.ndarray, "..."]:
        """Log odds."""
        return np.interp(scores, self.scores, self.log_odds)


@dataclass(frozen=True)
class Decision:
    """When a text counts as heard: at most this share of unrelated pairs may, or it is at least so probable."""

    kind: Kind = "false alarms"
    level: float = 0.01

    def __post_init__(self) -> None:
        check_choice(self.kind, Kind, name="decision")
        if not 0 < self.level < 1:
            raise ValueError(f"{self.kind} of a decision must lie between 0 and 1, got {self.level}")

    @property
    def rule(self) -> str:
        """In words, behind "a text counts as heard where"."""
        if self.kind == "false alarms":
            return f"at most {percent(self.level)} of unrelated pairs do"
        return f"its probability is at least {percent(self.level)}"


@dataclass(frozen=True)
class Fitted:
    """What a calibration was fitted on."""

    data: str
    """In words."""
    num_clips: int
    num_texts: int
    num_pairs: int
    num_matches: int
    losses: Mapping[str, float]
    """The mean log loss, in nats, of each way of fitting on texts that it was not fitted on."""
    chosen: str
    checksum: str = ""
    """Of the clips, as results have it."""
    matches_heard: float = 0.0
    """The share of matching pairs of the fit that count as heard."""
    languages: tuple[str, ...] = ()
    """Of the captions; empty where those of all languages were taken."""
    clips: tuple[str, ...] = field(default=(), repr=False)
    """Of each clip the start of the digest of its sound, by which one that is measured later is known again."""

    @property
    def pairs(self) -> str:
        """In words, behind "fitted on"."""
        return f"{self.data}, captions in {', '.join(self.languages)}" if self.languages else self.data


@dataclass(frozen=True)
class Meaning:
    """Of pairs of texts and clips."""

    probability: Float64[np.ndarray, "texts clips"]
    percentile: Float64[np.ndarray, "texts clips"]
    heard: Bool[np.ndarray, "texts clips"]

    @property
    def nothing_matches(self) -> Bool[np.ndarray, "texts"]:
        """Of each text whether no clip counts as having it."""
        return np.asarray(~self.heard.any(axis=1))


@dataclass(frozen=True)
class FrameCalibration:
    """The meaning of a text's cosine with an instant of a recording, which is less than a clip.

    An instant's score is `cosine + usual_weight * usual`. What is usual for a text is its median in the recording, as
    far as that is long, and else its product with `centre`, the mean of the fit's instants: `usual_of` weighs the two.

    Raises:
        ValueError: a number is not finite or out of its range.
    """

    hearing: Literal["dense", "windows"]
    """How the instants were heard."""
    curve: Logistic | Isotonic
    usual_weight: float
    centre: tuple[float, ...]
    begin_score: float
    """From which on a text is heard."""
    continue_score: float
    """Down to which it is heard on."""
    data: str = ""
    """What it was fitted on, in words."""
    event_f1: float = 0.0
    """Of the fit's own mixtures, over all texts and events."""
    known_seconds: float = 30.0
    """Of a recording, whose median counts as much as what the fit says."""

    def __post_init__(self) -> None:
        check_choice(self.hearing, Literal["dense", "windows"], name="hearing")
        numbers = (self.usual_weight, self.begin_score, self.continue_score, *self.centre)
        if not np.isfinite(numbers).all() or self.continue_score > self.begin_score:
            raise ValueError("expected finite numbers, and a continue_score no higher than begin_score")
        if self.known_seconds <= 0:
            raise ValueError(f"known_seconds must be above 0, got {self.known_seconds}")

    def usual_of(
        self, texts: Vectors, *, medians: Float[np.ndarray, "texts"], seconds: float
    ) -> Float64[np.ndarray, "texts"]:
        """The usual cosine of each text in a recording of so many seconds with these medians.

        Raises:
            ValueError: the vectors have another width.
        """
        if texts.shape[1] != len(self.centre):
            raise ValueError(f"expected vectors of width {len(self.centre)}, got {texts.shape[1]}")
        share = seconds / (seconds + self.known_seconds)
        return share * medians + (1 - share) * (texts.astype(np.float64) @ np.array(self.centre))

    def probability(self, scores: Scores) -> Float64[np.ndarray, "..."]:
        """That the text is heard at the instant, where as much sounds as in the fit."""
        return logistic(self.curve(scores))


@dataclass(frozen=True)
class Calibration:
    """The meaning of one model's cosines.

    A pair's score is `cosine + background_weight * background`, where the background of a text is its product with
    `centre`, the mean vector of the clips of the fit.

    Raises:
        ValueError: a number is not finite, or the parts do not fit together.
    """

    identity: str
    """Of the model."""
    curve: Logistic | Isotonic
    background_weight: float
    centre: tuple[float, ...]
    unrelated: tuple[float, ...]
    """The scores of unrelated pairs at `LEVELS`."""
    prior: float
    """The share of matching pairs."""
    decision: Decision
    least_score: float
    """From which on a text counts as heard."""
    fitted: Fitted
    frames: tuple[FrameCalibration, ...] = ()
    """Of instants, one a way of hearing; none where it was fitted to clips alone."""
    lapis_version: str = field(default=__version__, compare=False)

    def __post_init__(self) -> None:
        if len(self.unrelated) != len(LEVELS) or (np.diff(self.unrelated) < 0).any():
            raise ValueError(f"expected {len(LEVELS)} rising scores of unrelated pairs, got {len(self.unrelated)}")
        numbers = (self.background_weight, self.least_score, *self.centre, *self.unrelated)
        if not np.isfinite(numbers).all() or not 0 < self.prior < 1:
            raise ValueError(f"expected finite numbers and a prior between 0 and 1, got {self.prior} among others")

    def frames_of(self, hearing: str) -> FrameCalibration | None:
        """What instants mean that are heard so; None where no fit was made."""
        return next((of for of in self.frames if of.hearing == hearing), None)

    def background(self, texts: Vectors) -> Float64[np.ndarray, "texts"]:
        """The mean cosine of each text with the clips of the background.

        Raises:
            ValueError: the vectors have another width.
        """
        if texts.shape[1] != len(self.centre):
            raise ValueError(f"expected vectors of width {len(self.centre)}, got {texts.shape[1]}")
        return texts.astype(np.float64) @ np.array(self.centre)

    def scores(self, cosine: Scores, *, background: Scores | float) -> Float64[np.ndarray, "..."]:
        """What is higher the better a pair matches; `background` broadcasts against the cosines."""
        return np.asarray(cosine + self.background_weight * np.asarray(background), np.float64)

    def probability(self, scores: Scores, *, prior: float | None = None) -> Float64[np.ndarray, "..."]:
        """That the text is heard.

        Args:
            scores: of pairs, see `scores`.
            prior: the share of matching pairs where the answer is used; as in the fit unless told.

        Raises:
            ValueError: the prior is not between 0 and 1.
        """
        moved = 0.0
        if prior is not None:
            if not 0 < prior < 1:
                raise ValueError(f"a prior must lie between 0 and 1, got {prior}")
            moved = log_odds(prior) - log_odds(self.prior)
        return logistic(self.curve(scores) + moved)

    def percentile(self, scores: Scores) -> Float64[np.ndarray, "..."]:
        """The share of unrelated pairs that score lower, in [0, 1]; one with an equal score does not."""
        # Of several levels with one score the lowest counts. Equal pairs differ by what float32 vectors lose.
        place = np.searchsorted(self.unrelated, scores - SCORE_PRECISION)
        place = np.minimum(place, len(LEVELS) - 1)
        tied = np.abs(np.asarray(self.unrelated)[place] - scores) <= SCORE_PRECISION
        return np.where(tied, np.asarray(LEVELS)[place], np.interp(scores, self.unrelated, LEVELS))

    def heard(self, scores: Scores) -> Bool[np.ndarray, "..."]:
        """Whether texts count as heard."""
        return np.asarray(scores >= self.least_score)

    def meaning(self, texts: Vectors, *, clips: Vectors, prior: float | None = None) -> Meaning:
        """Of all pairs of texts and clips, given as unit vectors of the model that this belongs to.

        Raises:
            ValueError: the vectors have another width, or the prior is not between 0 and 1.
        """
        cosine = texts.astype(np.float64) @ clips.astype(np.float64).T
        scores = self.scores(cosine, background=self.background(texts)[:, None])
        return Meaning(self.probability(scores, prior=prior), self.percentile(scores), self.heard(scores))


@runtime_checkable
class Calibrated(Protocol):
    """A model with room for its calibration, which belongs to it while its `identity` is the calibration's."""

    calibration: Calibration | None


def logistic(log_odds: Scores) -> Float64[np.ndarray, "..."]:
    """From log odds to probability, for numbers of any size."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(log_odds, np.float64)))


def log_odds(probability: float) -> float:
    """The inverse of `logistic`."""
    return float(np.log(probability) - np.log1p(-probability))


def percent(share: float, *, digits: int = 10) -> str:
    """A share to some significant digits, so that a small one does not look like none, nor 99.9 % like all."""
    return f"{100 * share:.{digits}g}%"


def write(calibration: Calibration, folder: Path | str) -> Path:
    """Put a calibration beside the weights of a saved model, in place of one that is there.

    Raises:
        ValueError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected the folder of a model, there is none")
    content = {"format": FORMAT, "version": VERSION, "calibration": to_values(calibration)}
    with atomic_write(folder / NAME, binary=False) as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)
    return folder / NAME


def read(folder: Path | str, *, identity: str | None = None) -> Calibration | None:
    """The calibration that lies in a model's folder; None where there is none.

    Args:
        folder: of the model.
        identity: of the model as it was opened; None to take whatever lies there.

    Raises:
        ValueError: the file is damaged or of another version, or was fitted to other weights.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: expected a calibration of Lapis, with the format {FORMAT!r}")
    if content.get("version") != VERSION:
        raise ValueError(f"{path} is of version {content.get('version')!r}, and this version of Lapis reads {VERSION}")
    try:
        found = from_values(content.get("calibration"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(found, Calibration):
        raise ValueError(f"{path}: expected a calibration under 'calibration', got {type(found).__name__}")
    if identity is not None and found.identity != identity:
        raise ValueError(
            f"{path} was fitted to other weights ({found.identity}) than these ({identity}): run lapis calibrate again"
        )
    return found
