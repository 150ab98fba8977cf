"""Whether a calibration keeps what it promises: of the pairs called 30 % probable, are 30 % matching ones?

Told by the expected calibration error (ECE), the Brier score and the log loss on pairs that neither the model nor the
calibration has seen, beside what the bare cosine and the share of matches alone would score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from lapis.calibration import Calibration, percent
from lapis.data.sample import Sample
from lapis.evaluation.bootstrap import Statistic, Weights, interval, mean_of
from lapis.evaluation.calibrating import Pairs, among_the_fit
from lapis.evaluation.embeddings import AudioEmbeddings, as_embeddings, embed_texts
from lapis.evaluation.figure import Figure
from lapis.evaluation.results import data_checksum
from lapis.evaluation.subject import Needs
from lapis.model import Embedder

BINS = 15
SMALLEST = 1e-7
"""A probability nearer to 0 or 1 is taken as this, so that a log loss is finite."""

Probabilities = Float[np.ndarray, "pairs"]
Truths = Bool[np.ndarray, "pairs"]


def pairs_of(
    embedder: Embedder, *, clips: AudioEmbeddings | Sequence[Sample], languages: Sequence[str] | None = None
) -> Pairs:
    """Every text with every clip: the captions of a label match all clips of the label.

    A caption that clips of two labels have matches the clips of both; a clip without a label is one of its own. Clips
    of speech are heard but not asked for, as their captions may be the words that are said.

    Args:
        embedder: the model.
        clips: labelled ones with captions.
        languages: of the captions; all of them unless told.

    Raises:
        ValueError: no clip can be read, or there is no pair that matches or none that does not.
    """
    embeddings = as_embeddings(embedder, clips=clips)
    # By its place, as clips of two folders may have one key.
    names = [
        f"clip {place}" if sample.label is None else f"label {sample.label}"
        for place, sample in enumerate(embeddings.samples)
    ]
    labels_of: dict[str, dict[str, None]] = {}
    for sample, name in zip(embeddings.samples, names):
        if sample.domain != "speech":
            for language in sample.captions if languages is None else languages:
                for text in sample.captions.get(language, ()):
                    if text.strip():
                        labels_of.setdefault(text, {})[name] = None
    if not labels_of:
        raise ValueError(f"none of {len(names)} clips has a caption to ask for (those of speech are not asked for)")
    distinct = {name: number for number, name in enumerate(dict.fromkeys(names))}
    of_clip = np.array([distinct[name] for name in names])
    asked = [[distinct[name] for name in of] for of in labels_of.values()]
    return Pairs(
        texts=embed_texts(embedder, texts=list(labels_of)),
        clips=embeddings.vectors,
        matches=np.stack([np.isin(of_clip, of) for of in asked]),
        groups=np.array([min(of) for of in asked]),
    )


@dataclass(frozen=True)
class Bin:
    """Pairs of like probability."""

    count: int
    probability: float
    """The mean of what was said."""
    matching: float
    """The share that came true."""


def equal_mass_bins(probabilities: Probabilities, *, most: int = BINS) -> Int[np.ndarray, "pairs"]:
    """The number of each pair's bin, from 0; the bins hold about as many pairs each, equal probabilities together."""
    edges = np.quantile(probabilities, np.arange(1, most) / most, method="inverted_cdf")
    return np.unique(np.searchsorted(np.unique(edges), probabilities), return_inverse=True)[1]


def calibration_error(
    probabilities: Probabilities, *, matches: Truths, bins: Int[np.ndarray, "pairs"] | None = None
) -> float:
    """ECE: how far the mean probability is from the share of matches, the mean over bins weighed by their pairs.

    Args:
        probabilities: of pairs.
        matches: whether they match.
        bins: the number of each pair's bin; those of equal mass unless told.

    Raises:
        ValueError: there is no pair, or a probability is not between 0 and 1.
    """
    if not len(probabilities) or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(f"expected probabilities between 0 and 1, got {len(probabilities)}, not all of them such")
    chosen = equal_mass_bins(probabilities) if bins is None else bins
    gaps = np.bincount(chosen, weights=probabilities - matches)
    return float(np.abs(gaps).sum() / len(probabilities))


@dataclass(frozen=True)
class ReliabilityResult:
    """How far probabilities are from what came true. `baselines`: the same figures of other ways to say them."""

    probabilities: Float64[np.ndarray, "texts clips"]
    matches: Bool[np.ndarray, "texts clips"]
    baselines: Mapping[str, Mapping[str, float]]
    heard_unrelated: float
    """The share of unrelated pairs that count as heard."""
    heard_matching: float
    """The share of matching pairs that do."""
    protocol: str
    unreadable: tuple[str, ...] = ()
    chosen: str = ""
    """How the calibration was fitted, which is the model's own and so not in `protocol`."""

    @cached_property
    def _bins(self) -> Int[np.ndarray, "texts clips"]:
        return equal_mass_bins(self.probabilities.ravel()).reshape(self.matches.shape)

    @cached_property
    def bins(self) -> tuple[Bin, ...]:
        """The points of the reliability diagram, from improbable to probable."""
        bins, counts = self._bins.ravel(), np.bincount(self._bins.ravel())
        said = np.bincount(bins, weights=self.probabilities.ravel()) / counts
        true = np.bincount(bins, weights=self.matches.ravel()) / counts
        return tuple(Bin(int(count), float(p), float(share)) for count, p, share in zip(counts, said, true))

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "clips"]]:
        """Of each clip the mean over its texts."""
        return {
            "Brier score": np.square(self.probabilities - self.matches).mean(axis=0),
            "log loss": _surprises(self.probabilities, self.matches).mean(axis=0),
        }

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """With 95 % intervals over clips; low is good. `chance` is what the share of matches says of every pair.

        The interval of the ECE holds the bins fixed. An ECE of few pairs is above zero where nothing is wrong: see
        `error_if_perfect`.
        """
        clips = np.arange(self.matches.shape[1])
        error = calibration_error(self.probabilities.ravel(), matches=self.matches.ravel(), bins=self._bins.ravel())
        share = self.baselines["share of matches"]
        within = interval(self._error_redrawn(), clusters=clips)
        return {"ECE": Figure(error, None, within, "error")} | {
            name: Figure(float(of.mean()), share[name], interval(mean_of(of), clusters=clips), "error")
            for name, of in self.items.items()
        }

    def error_if_perfect(self, *, draws: int = 200, seed: int = 0) -> float:
        """The mean ECE of so many pairs whose truths are drawn with just the probabilities that were said."""
        random = np.random.default_rng(seed)
        said, bins = self.probabilities.ravel(), self._bins.ravel()
        truths = (random.random(len(said)) < said for _ in range(draws))
        return float(np.mean([calibration_error(said, matches=drawn, bins=bins) for drawn in truths]))

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON; `bins` are the reliability diagram."""
        return {
            "bins": [asdict(of) for of in self.bins],
            "error_if_perfect": self.error_if_perfect(),
            "baselines": {name: dict(of) for name, of in self.baselines.items()},
            "heard_unrelated": self.heard_unrelated,
            "heard_matching": self.heard_matching,
            "num_texts": self.matches.shape[0],
            "num_clips": self.matches.shape[1],
            "num_matches": int(self.matches.sum()),
            "protocol": self.protocol,
            "chosen": self.chosen,
            "unreadable": list(self.unreadable),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }

    def _error_redrawn(self) -> Statistic:
        """The ECE as a function of how often each clip was drawn."""
        texts, clips = self.matches.shape
        gaps = np.zeros((clips, int(self._bins.max()) + 1))
        np.add.at(
            gaps, (np.tile(np.arange(clips), texts), self._bins.ravel()), (self.probabilities - self.matches).flat
        )

        def statistic(weights: Weights) -> Float64[np.ndarray, "draws"]:
            return np.abs(weights @ gaps).sum(axis=1) / (weights.sum(axis=1) * texts)

        return statistic


@dataclass(frozen=True)
class Reliability:
    """How well a calibration's probabilities, under the share of matches that the test has, come true.

    The prior is that of the test, as a share of matches is a property of the pairs asked about and not of a model;
    `prior` fixes another one.
    """

    needs: ClassVar[Needs] = "calibration"
    calibration: Calibration | None = None
    """Of the model; None in a suite, which puts in the one of the model it measures."""
    languages: tuple[str, ...] | None = None
    prior: float | None = None

    def run(self, embedder: Embedder, *, clips: AudioEmbeddings | Sequence[Sample]) -> ReliabilityResult:
        """Measure on labelled clips with captions, or on their embeddings.

        Raises:
            ValueError: see `pairs_of`; or there is no calibration, or it is another model's.
        """
        if self.calibration is None:
            raise ValueError("expected the calibration of the model, got none")
        if self.calibration.identity != embedder.identity:
            raise ValueError(f"a calibration of {self.calibration.identity} is not that of {embedder.identity}")
        embeddings = as_embeddings(embedder, clips=clips)
        pairs = pairs_of(embedder, clips=embeddings, languages=self.languages)
        share = float(pairs.matches.mean())
        meaning = self.calibration.meaning(pairs.texts, clips=pairs.clips, prior=self.prior or share)
        cosine = np.clip(pairs.texts.astype(np.float64) @ pairs.clips.astype(np.float64).T, 0, 1)
        within = f" in {', '.join(self.languages)}" if self.languages else ""
        fitted = self.calibration.fitted
        known = among_the_fit(embeddings.samples, fitted=fitted)
        if not known and fitted.checksum == data_checksum(embeddings.samples):  # a fit that kept no clips
            known = embeddings.samples
        same = f", {len(known)} of these clips among them: too good" if known else ""
        lost = f"; {len(embeddings.failures)} unreadable clips are not counted" if embeddings.failures else ""
        return ReliabilityResult(
            probabilities=meaning.probability,
            matches=pairs.matches,
            baselines={
                "cosine as probability": _told(cosine, pairs.matches),
                "share of matches": _told(np.full(cosine.shape, share), pairs.matches),
                "prior of the fit": _told(
                    self.calibration.meaning(pairs.texts, clips=pairs.clips).probability, pairs.matches
                ),
            },
            heard_unrelated=float(meaning.heard[~pairs.matches].mean()),
            heard_matching=float(meaning.heard[pairs.matches].mean()),
            protocol=(
                f"Probabilities of {pairs.matches.size} pairs of {len(pairs.texts)} captions{within} and "
                f"{len(pairs.clips)} clips, a caption matching all clips of its label, {percent(share, digits=3)} of "
                f"all pairs; a prior of {percent(self.prior or share, digits=3)}; ECE over {BINS} bins of equal "
                f"mass{lost}."
            ),
            chosen=f"{fitted.chosen}, fitted on {fitted.pairs}{same}.",
            unreadable=tuple(str(failure) for failure in embeddings.failures),
        )


def _told(
    probabilities: Float[np.ndarray, "texts clips"], matches: Bool[np.ndarray, "texts clips"]
) -> dict[str, float]:
    return {
        "ECE": calibration_error(probabilities.ravel(), matches=matches.ravel()),
        "Brier score": float(np.square(probabilities - matches).mean()),
        "log loss": float(_surprises(probabilities, matches).mean()),
    }


def _surprises(
    probabilities: Float[np.ndarray, "texts clips"], matches: Bool[np.ndarray, "texts clips"]
) -> Float64[np.ndarray, "texts clips"]:
    told = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    return -np.log(np.where(matches, told, 1 - told))
