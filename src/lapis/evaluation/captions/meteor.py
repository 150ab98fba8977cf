"""METEOR 1.5 (Denkowski and Lavie 2014): words of a caption aligned with those of a reference, by form, stem, synonym
and paraphrase; recall before precision, and fewer, longer runs of words in order before many short ones.

The search for an alignment follows the published program, a Java one, in its roundings and ties too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import fsum

import numpy as np

from lapis.evaluation.captions.meteor_data import LONGEST_PHRASE, MeteorData, Paraphrases
from lapis.evaluation.captions.meteor_words import split_again
from lapis.evaluation.captions.overlap import Scored, check
from lapis.evaluation.captions.tokens import Tokens

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
WORTH = (1.0, 0.6, 0.8, 0.6)
"""Of a match by its kind, in the score."""
SEARCH_WORTH = (1.0, 0.5, 0.5, 0.5)
"""The same in the search; sums are cut to whole numbers."""
RECALL, FRAGMENTATION, PENALTY, CONTENT = 0.85, 0.2, 0.6, 0.75
"""The constants for English: alpha, beta, gamma and delta of the paper."""
BEAM = 40
"""Alignments that are followed at once."""


@dataclass(frozen=True)
class _Match:
    """A run of the reference's words that a run of the caption's stands for."""

    kind: int
    begin: int
    length: int
    caption_begin: int
    caption_length: int = 1

    @property
    def words(self) -> int:
        """Of the reference, a bit each."""
        return ((1 << self.length) - 1) << self.begin

    @property
    def caption_words(self) -> int:
        """A bit each."""
        return ((1 << self.caption_length) - 1) << self.caption_begin


@dataclass
class _Path:
    """The alignment of a reference's first words."""

    used: int = 0
    caption_used: int = 0
    chosen: dict[int, _Match] = field(default_factory=dict)
    position: int = 0
    worth: int = 0
    caption_worth: int = 0
    chunks: int = 0
    distance: int = 0
    last_end: int | None = None

    def with_match(self, match: _Match) -> "_Path":
        return replace(
            self,
            used=self.used | match.words,
            caption_used=self.caption_used | match.caption_words,
            chosen=self.chosen | {match.begin: match},
        )

    def pass_match(self, match: _Match) -> None:
        self.worth = int(self.worth + match.length * SEARCH_WORTH[match.kind])
        self.caption_worth = int(self.caption_worth + match.caption_length * SEARCH_WORTH[match.kind])
        self.chunks += self.last_end not in (None, match.caption_begin)
        self.position = match.begin + match.length
        self.last_end = match.caption_begin + match.caption_length

    def end_chunk(self) -> None:
        self.chunks += self.last_end is not None
        self.last_end = None

    def order(self) -> tuple[int, int, int]:
        """The best path is the first by this."""
        return -(self.worth + self.caption_worth), self.chunks, self.distance


@dataclass(frozen=True)
class _Statistics:
    """What METEOR adds up; lengths and matches are weighed by kind of word and of match."""

    length: float = 0.0
    caption_length: float = 0.0
    matched: float = 0.0
    caption_matched: float = 0.0
    words_matched: float = 0.0
    """The mean over both sides, unweighted."""
    chunks: int = 0

    def __add__(self, other: "_Statistics") -> "_Statistics":
        return _Statistics(*(a + b for a, b in zip(vars(self).values(), vars(other).values())))

    @property
    def score(self) -> float:
        if not self.matched or not self.caption_matched:
            return 0.0
        precision, recall = self.caption_matched / self.caption_length, self.matched / self.length
        mean = 1 / ((1 - RECALL) / precision + RECALL / recall)
        return mean * (1 - PENALTY * (self.chunks / self.words_matched) ** FRAGMENTATION)


@dataclass(frozen=True)
class Meteor:
    """METEOR with the data of English."""

    data: MeteorData

    def __call__(self, candidates: Sequence[Tokens], *, references: Sequence[Sequence[Tokens]]) -> Scored:
        """Of a corpus, from the sums over clips of what matched, and of each clip by its best reference.

        Raises:
            ValueError: there is no caption, another number of reference sets, or a clip without references.
        """
        check(candidates, references)
        candidates = [self._split(candidate) for candidate in candidates]
        references = [[self._split(text) for text in texts] for texts in references]
        every = [*candidates, *(text for texts in references for text in texts)]
        paraphrases = self.data.paraphrases(every)
        total, clips = _Statistics(), []
        for candidate, texts in zip(candidates, references):
            found = [self._compare(candidate, text, paraphrases) for text in texts]
            best = max(found, key=lambda statistics: statistics.score)
            clips.append(best.score)
            total += best
        return Scored(total.score, np.array(clips, dtype=np.float64))

    def _split(self, tokens: Tokens) -> Tokens:
        return split_again(tokens, abbreviations=self.data.abbreviations)

    def _compare(self, caption: Tokens, reference: Tokens, paraphrases: Paraphrases) -> _Statistics:
        matches = self._matches(caption, reference, paraphrases)
        aligned = _align(matches)
        functions = self.data.function_words
        weights = [1 - CONTENT if word in functions else CONTENT for word in reference]
        caption_weights = [1 - CONTENT if word in functions else CONTENT for word in caption]
        covered = sum(match.length for match in aligned)
        caption_covered = sum(match.caption_length for match in aligned)
        chunks = _chunks(aligned)
        if chunks == 1 and covered == len(reference) and caption_covered == len(caption):
            chunks = 0  # all words in one run: no penalty
        return _Statistics(
            length=fsum(weights),
            caption_length=fsum(caption_weights),
            matched=fsum(WORTH[m.kind] * fsum(weights[m.begin : m.begin + m.length]) for m in aligned),
            caption_matched=fsum(
                WORTH[m.kind] * fsum(caption_weights[m.caption_begin : m.caption_begin + m.caption_length])
                for m in aligned
            ),
            words_matched=(covered + caption_covered) / 2,
            chunks=chunks,
        )

    def _matches(self, caption: Tokens, reference: Tokens, paraphrases: Paraphrases) -> list[list[_Match]]:
        """All matches by the reference's word that they begin with."""
        pairs = [(there, here) for there in range(len(reference)) for here in range(len(caption))]
        matches: list[list[_Match]] = [[] for _ in reference]
        for there, here in pairs:
            if reference[there] == caption[here]:
                matches[there].append(_Match(EXACT, there, 1, here))
        if caption == reference:  # the search could lose its way
            return matches
        differing = [(there, here) for there, here in pairs if reference[there] != caption[here]]
        stems, caption_stems = [*map(self.data.stem, reference)], [*map(self.data.stem, caption)]
        for there, here in differing:
            if stems[there] == caption_stems[here]:
                matches[there].append(_Match(STEM, there, 1, here))
        meanings, caption_meanings = [*map(self.data.meanings, reference)], [*map(self.data.meanings, caption)]
        for there, here in differing:
            if meanings[there] & caption_meanings[here]:
                matches[there].append(_Match(SYNONYM, there, 1, here))
        for there, length, here, caption_length in _rewordings(reference, caption, paraphrases):
            matches[there].append(_Match(PARAPHRASE, there, length, here, caption_length))
        for here, caption_length, there, length in _rewordings(caption, reference, paraphrases):
            matches[there].append(_Match(PARAPHRASE, there, length, here, caption_length))
        return matches


def _rewordings(text: Tokens, other: Tokens, paraphrases: Paraphrases) -> list[tuple[int, int, int, int]]:
    """Begin and length of a phrase of `text`, and of one of `other` that the table has for it."""
    return [
        (begin, length, place, len(phrase))
        for begin in range(len(text))
        for length in range(1, min(LONGEST_PHRASE, len(text) - begin) + 1)
        for phrase in paraphrases.get(text[begin : begin + length], ())
        for place in range(len(other))
        if other[place : place + len(phrase)] == phrase
    ]


def _align(matches: list[list[_Match]]) -> list[_Match]:
    """The best set of matches that share no word, in the reference's order, found by beam search."""
    every = [match for starting in matches for match in starting]
    start = _Path()
    for starting in matches:
        if len(starting) == 1:
            (match,) = starting
            rivals = (m for m in every if m is not match)
            if not any(m.words & match.words or m.caption_words & match.caption_words for m in rivals):
                start = start.with_match(match)
    paths = [start]
    for current, starting in enumerate(matches):
        paths = _step(sorted(paths, key=_Path.order)[:BEAM], current, starting)
    paths = sorted(paths, key=_Path.order)[:BEAM]
    for path in paths:
        path.end_chunk()
    best = min(paths, key=_Path.order)
    return [best.chosen[begin] for begin in sorted(best.chosen)]


def _step(paths: list[_Path], current: int, starting: list[_Match]) -> list[_Path]:
    """Each path with each way to go on from one word of the reference."""
    following = []
    for path in paths:
        if path.used >> current & 1:
            if current >= path.position:  # a match that was certain from the start
                path.pass_match(path.chosen[current])
                path.distance += abs(current - path.chosen[current].caption_begin)
            following.append(path)
            continue
        for match in starting:
            if match.words & path.used or match.caption_words & path.caption_used:
                continue
            taken = path.with_match(match)
            taken.pass_match(match)
            following.append(taken)
            # The program adds the distance to the path that goes on without the match, and so do we.
            path.distance += abs(match.begin - match.caption_begin)
        path.end_chunk()
        path.position += 1
        following.append(path)
    return following


def _chunks(aligned: list[_Match]) -> int:
    """Runs of matches that follow one another on both sides."""
    follows = (
        first.begin + first.length == second.begin
        and first.caption_begin + first.caption_length == second.caption_begin
        for first, second in pairwise(aligned)
    )
    return len(aligned) - sum(follows)
