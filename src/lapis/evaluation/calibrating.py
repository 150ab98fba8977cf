"""Fits the meaning of a model's scores: five ways, of which the one that does best on texts it has not seen is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from lapis.calibration import (
    LEVELS,
    Calibration,
    Decision,
    Fitted,
    Isotonic,
    Logistic,
    log_odds,
    logistic,
)
from lapis.data.sample import Sample
from lapis.evaluation.cache import content_digest
from lapis.evaluation.embeddings import NotFiniteError
from lapis.shapes import Vectors

FOLDS = 5
PENALTY = 1.0
"""Half of it times the squared slope of standardised scores is added to the summed loss; as scikit-learn has it."""
DIGITS = 12
"""Of the digests of clips: enough that two different ones among a million hardly ever agree."""
FALSE_ALARMS = Decision("false alarms", 0.01)
WAYS = (
    "logistic of the cosine",
    "logistic of the centred cosine",
    "logistic of cosine and background",
    "isotonic of the cosine",
    "isotonic of the centred cosine",
)
"""Centred: the text's background is subtracted. The first of equals is taken, so the simplest stand first."""

Numbers = Float64[np.ndarray, "pairs"]
Truths = Bool[np.ndarray, "pairs"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Texts and clips of which it is known which belong together; a text may have any number of clips.

    Raises:
        ValueError: the parts do not fit together, or no pair matches, or all do.
        NotFiniteError: a vector is not finite.
    """

    texts: Vectors
    clips: Vectors
    matches: Bool[np.ndarray, "_texts _clips"]
    groups: Int[np.ndarray, "_texts"]
    """Texts that say the same have one number, and are never on both sides of a fold."""

    def __post_init__(self) -> None:
        if self.matches.shape != (len(self.texts), len(self.clips)) or len(self.groups) != len(self.texts):
            raise ValueError(f"{len(self.texts)} texts and {len(self.clips)} clips do not fit {self.matches.shape}")
        for name, vectors in (("text", self.texts), ("clip", self.clips)):
            if not (finite := np.isfinite(vectors).all(axis=1)).all():
                raise NotFiniteError(f"the vector of {name} {int(np.argmin(finite))} is not finite")
        if not self.matches.any() or self.matches.all():
            raise ValueError(f"expected pairs that match and others, got {self.matches.sum()} of {self.matches.size}")


def fit(
    pairs: Pairs,
    *,
    identity: str,
    data: str,
    decision: Decision = FALSE_ALARMS,
    checksum: str = "",
    languages: Sequence[str] | None = None,
    clips: Sequence[Sample] = (),
) -> Calibration:
    """The meaning of scores, fitted on pairs that the model has not learned from.

    Args:
        pairs: held out.
        identity: of the model.
        data: what the pairs are, in words.
        decision: when a text counts as heard.
        checksum: of the clips.
        languages: of the captions that `pairs_of` was asked for; None where it was asked for all.
        clips: those of the pairs, so that a later measurement on them is known for one; see `among_the_fit`.

    Raises:
        ValueError: matching pairs do not score higher than others, or there are not two groups of texts.
    """
    centre = pairs.clips.astype(np.float64).mean(axis=0)
    cosine = pairs.texts.astype(np.float64) @ pairs.clips.astype(np.float64).T
    background = np.repeat(pairs.texts.astype(np.float64) @ centre, len(pairs.clips))
    cosine, matches = cosine.ravel(), pairs.matches.ravel()
    groups = np.repeat(pairs.groups, len(pairs.clips))
    losses = _losses(cosine, background, matches, groups)
    chosen = min(losses, key=lambda way: losses[way])
    weight, curve = _fitted(chosen, cosine, background, matches)
    scores = cosine + weight * background
    least = _least(decision, curve, unrelated=scores[~matches])
    return Calibration(
        identity=identity,
        curve=curve,
        background_weight=weight,
        centre=tuple(centre.tolist()),
        unrelated=tuple(np.quantile(scores[~matches], LEVELS).tolist()),
        prior=float(matches.mean()),
        decision=decision,
        least_score=least,
        fitted=Fitted(
            data=data,
            num_clips=len(pairs.clips),
            num_texts=len(pairs.texts),
            num_pairs=matches.size,
            num_matches=int(matches.sum()),
            losses=losses,
            chosen=chosen,
            checksum=checksum,
            matches_heard=float((scores[matches] >= least).mean()),
            languages=tuple(languages or ()),
            clips=tuple(_mark(clip) for clip in clips),
        ),
    )


def _mark(clip: Sample) -> str:
    return content_digest(clip).hex()[:DIGITS]


def among_the_fit(clips: Sequence[Sample], *, fitted: Fitted) -> list[Sample]:
    """Those clips whose sound was in a fit: what is measured on them is too good.

    Raises:
        ValueError, OSError: a sound cannot be read.
    """
    known = set(fitted.clips)
    return [clip for clip in clips if _mark(clip) in known] if known else []


def log_loss(log_odds: Float[np.ndarray, "pairs"], *, matches: Truths) -> float:
    """The mean surprise of the truth, in nats."""
    return float(np.logaddexp(0.0, np.where(matches, -log_odds, log_odds)).mean())


def _losses(
    cosine: Numbers, background: Numbers, matches: Truths, groups: Int[np.ndarray, "pairs"]
) -> dict[str, float]:
    """The cross-validated loss of each way; one that cannot be fitted is not among them."""
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError("expected texts of two groups or more, to fit on some and measure on others")
    # Dealt in a fixed shuffled order: neighbours in a list of classes are often alike.
    fold_of = np.random.default_rng(0).permutation(len(names)) % min(FOLDS, len(names))
    fold = fold_of[group]
    folds = [number for number in range(fold.max() + 1) if matches[fold != number].any()]
    losses, reasons = {}, {}
    for way in WAYS:
        total = 0.0
        try:
            for number in folds:
                seen, unseen = fold != number, fold == number
                weight, curve = _fitted(way, cosine[seen], background[seen], matches[seen])
                odds = curve(cosine[unseen] + weight * background[unseen])
                total += log_loss(odds, matches=matches[unseen]) * int(unseen.sum())
        except _MeaninglessError as error:
            reasons[way] = str(error)
            continue
        losses[way] = total / sum(int((fold == number).sum()) for number in folds)
    if not losses:
        raise ValueError(f"these scores cannot be given a meaning: {next(iter(reasons.values()))}")
    return losses


class _MeaninglessError(ValueError):
    """Scores that do not rise with matching."""


def _fitted(way: str, cosine: Numbers, background: Numbers, matches: Truths) -> tuple[float, Logistic | Isotonic]:
    """The weight of the background, and the curve over `cosine + weight * background`."""
    if way == "logistic of cosine and background":
        slopes, offset = fit_logistic(np.stack([cosine, background], axis=1), matches=matches)
        _check_slope(slopes[0])
        return float(slopes[1] / slopes[0]), Logistic(float(slopes[0]), offset)
    weight = -1.0 if "centred" in way else 0.0
    scores = cosine + weight * background
    if way.startswith("logistic"):
        slopes, offset = fit_logistic(scores[:, None], matches=matches)
        _check_slope(slopes[0])
        return weight, Logistic(float(slopes[0]), offset)
    curve = fit_isotonic(scores, matches=matches)
    _check_slope(curve.log_odds[-1] - curve.log_odds[0])
    return weight, curve


def _check_slope(slope: float) -> None:
    if slope <= 1e-6:  # a model that gives every pair one score has some 1e-13, by rounding
        raise _MeaninglessError("pairs that match do not score higher than others")


def fit_logistic(
    inputs: Float64[np.ndarray, "pairs inputs"], *, matches: Truths
) -> tuple[Float64[np.ndarray, "inputs"], float]:
    """Slopes and offset of logistic regression by Newton's method, with a slight penalty that keeps them finite."""
    middle, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    design = np.column_stack([(inputs - middle) / spread, np.ones(len(inputs))])
    penalty = np.diag([PENALTY] * inputs.shape[1] + [0.0])
    weights = np.zeros(design.shape[1])
    weights[-1] = log_odds(float(np.clip(matches.mean(), 1e-9, 1 - 1e-9)))

    def cost(weights: Float64[np.ndarray, "weights"]) -> float:
        return log_loss(design @ weights, matches=matches) * len(design) + 0.5 * float(weights @ penalty @ weights)

    now = cost(weights)
    for _ in range(100):
        probability = logistic(design @ weights)
        slope = design.T @ (probability - matches) + penalty @ weights
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(weights)), slope)
        while (after := cost(weights - step)) > now and np.abs(step).max() > 1e-12:
            step = step / 2
        weights, now = weights - step, min(after, now)
        if np.abs(step).max() < 1e-10:
            break
    slopes = weights[:-1] / spread
    return slopes, float(weights[-1] - slopes @ middle)


def fit_isotonic(scores: Numbers, *, matches: Truths) -> Isotonic:
    """The rising curve nearest to the truths, by pooling of adjacent violators.

    Each of its levels is drawn towards the share of all by one pair, as no finite number of pairs makes sure.
    """
    distinct, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=matches)
    blocks: list[tuple[float, float, int, int]] = []
    for number, (hit, count) in enumerate(zip(hits.tolist(), counts.tolist())):
        block = (hit, count, number, number)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2], block[3])
        blocks.append(block)
    share = float(matches.mean())
    levels = np.maximum.accumulate([(hit + share) / (count + 1) for hit, count, _, _ in blocks])
    knots = [(float(distinct[end]), log_odds(level)) for level, of in zip(levels, blocks) for end in sorted({*of[2:]})]
    return Isotonic(tuple(score for score, _ in knots), tuple(odds for _, odds in knots))


def _least(decision: Decision, curve: Logistic | Isotonic, *, unrelated: Numbers) -> float:
    """The score from which on a text counts as heard."""
    if decision.kind == "false alarms":
        ordered = np.sort(unrelated)
        allowed = int(decision.level * len(ordered))
        # Just above the first that must not be heard: those that score as it does are not heard either.
        return float(np.nextafter(ordered[len(ordered) - allowed - 1], np.inf))
    wanted = log_odds(decision.level)
    if isinstance(curve, Logistic):
        return (wanted - curve.offset) / curve.slope
    if wanted > curve.log_odds[-1]:
        raise ValueError(f"no score has a probability of {decision.level}: choose a lower one")
    reached = int(np.searchsorted(curve.log_odds, wanted))
    if not reached:
        return curve.scores[0]
    (below, above), (low, high) = curve.log_odds[reached - 1 : reached + 1], curve.scores[reached - 1 : reached + 1]
    return low + (high - low) * (wanted - below) / (above - below)
