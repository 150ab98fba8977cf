"""What can be seen in a model's answers: whether they tell things apart, agree, and depend on nothing else."""

import time
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch

from lapis.doctor.finding import Finding, Level
from lapis.doctor.towers import MIXED_SECONDS, Tower
from lapis.shapes import Vectors

# Mean cosine of different things. A public checkpoint that had collapsed gave 0.999 to unrelated texts and 0.92 to
# different songs (embeddings-benchmark/mteb issue 5069 and others); the pocket model gives the probes 0.30 and 0.12.
MOST_ALIKE = 0.8
# Sentence encoders trained at a low temperature live in a narrow cone, where 0.8 is common and ranks still mean
# something: no collapse while sounds find their sentences this surely.
SURE_CHANCE = 0.01
HIGHEST_CHANCE = 0.05
SAME = 1e-6
# How far rounding may take one number of a unit vector, by the type of the weights; ten times that is worth a warning.
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Agreement:
    """How well sounds and sentences find each other.

    `found` sounds have their own sentence nearest. `chance` is the share of all ways to deal the sentences to the
    sounds whose summed cosine is at least that of the true one: an exact test of permutations, which a constant added
    to all scores of a sound or of a sentence does not move.
    """

    items: int
    found: int
    chance: float


def agreement(sounds: Vectors, sentences: Vectors) -> Agreement:
    """Compare each sound with each sentence; row n of both belong together."""
    cosines = sounds @ sentences.T
    rows = np.arange(len(cosines))
    sums = cosines[rows, np.array(list(permutations(rows)))].sum(1)
    as_good = sums >= sums[0] - 1e-6  # the first permutation is the true one
    return Agreement(len(cosines), int((cosines.argmax(1) == rows).sum()), float(as_good.mean()))


def agree(found: Agreement) -> Finding:
    """Whether sounds find their sentences better than by chance."""
    level: Level = "fine" if found.chance <= HIGHEST_CHANCE else "warning"
    sentence = (
        f"{found.found} of {found.items} sounds are nearest to their own sentence; "
        f"{found.chance:.1%} of all pairings are as good"
    )
    if level == "warning":
        sentence += (
            ": no better than chance; the model is untrained, its towers do not belong together, or everyday sounds "
            "in English words are not what it was trained for"
        )
    return Finding("agreement", level, sentence, {"found": float(found.found), "chance": found.chance})


def collapse(tower: Tower, answers: Vectors, found: Agreement | None) -> Finding:
    """Whether a tower gives different things different answers."""
    check = f"{tower.name} collapse"
    cosines = (answers @ answers.T)[~np.eye(len(answers), dtype=bool)]
    mean = float(cosines.mean())
    figures = {"mean_cosine": mean, "least_cosine": float(cosines.min()), "limit": MOST_ALIKE}
    if np.abs(answers - answers[0]).max() <= SAME:
        sentence = f"gives {len(answers)} different {tower.kind} the same answer: it has collapsed"
        return Finding(check, "failure", sentence, figures)
    alike = f"{len(answers)} different {tower.kind} have a mean cosine of {mean:.2f}"
    if mean <= MOST_ALIKE:
        return Finding(check, "fine", f"{alike} (a tower that cannot tell them apart has above {MOST_ALIKE})", figures)
    if found is not None and found.chance <= SURE_CHANCE:
        sentence = f"{alike}: scores lie close together, but sounds still find their sentences"
        return Finding(check, "warning", sentence, figures)
    sentence = f"{alike}, expected {MOST_ALIKE} or less: it hardly tells them apart, it is untrained or has collapsed"
    return Finding(check, "failure", sentence, figures)


def batch(tower: Tower, together: Vectors, *, kind: torch.dtype) -> Finding:
    """Whether an answer is the same alone as among others of very different lengths."""
    check = f"{tower.name} batch"
    alone = []
    for item in tower.mixed:
        answer = tower.ask([item])
        if isinstance(answer, Finding):
            return Finding(check, answer.level, f"one by one: {answer.sentence}", answer.figures)
        alone.append(answer)
    difference = float(np.abs(np.concatenate(alone) - together).max())
    level, measured, figures = _judged(difference, kind=kind)
    lengths = f" of {MIXED_SECONDS[0]:g} to {MIXED_SECONDS[-1]:g} s" if tower.name == "audio" else ""
    what = f"{len(alone)} {tower.kind}{lengths}, alone and together, {measured}"
    if level == "fine":
        return Finding(check, level, what, figures)
    return Finding(check, level, f"an answer depends on what else is in the batch: {what}", figures)


def repeat(tower: Tower, first: Vectors, second: Vectors, *, kind: torch.dtype) -> Finding:
    """Whether the same question gets the same answer twice."""
    level, measured, figures = _judged(float(np.abs(first - second).max()), kind=kind)
    what = f"{len(first)} {tower.kind}, asked twice, {measured}"
    if level != "fine":
        what = f"the same question gets different answers: {what}"
    return Finding(f"{tower.name} repeat", level, what, figures)


def speed(tower: Tower) -> Finding:
    """What a tower gets done; a figure, not a judgement."""
    begin = time.perf_counter()
    answers = tower.ask(tower.fresh)
    seconds = time.perf_counter() - begin
    check = f"{tower.name} speed"
    if isinstance(answers, Finding):
        return Finding(check, answers.level, answers.sentence, answers.figures)
    rate = len(answers) / seconds  # a probe sound lasts a second
    what = "seconds of sound" if tower.name == "audio" else "sentences"
    return Finding(check, "fine", f"{rate:.3g} {what} a second", {f"{what.replace(' ', '_')}_per_second": rate})


def _judged(difference: float, *, kind: torch.dtype) -> tuple[Level, str, dict[str, float]]:
    limit = ROUNDING[kind]
    level: Level = "fine" if difference <= limit else "warning" if difference <= 10 * limit else "failure"
    measured = f"differ by at most {difference:.1g}" if difference else "are equal to the last bit"
    figures = {"difference": difference, "limit": limit}
    return level, f"{measured} (limit {limit:g} for {kind})".replace("torch.", ""), figures
