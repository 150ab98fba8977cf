"""Texts of a source put to a model, each once, and the answers that can be kept as a table of captions.

A model's answers are dear: they are noted as they come (`answers.py`), and only what has no answer yet is asked. What
becomes of them is decided anew at the end of every run: the good ones go into `captions.jsonl`, all others with their
reasons into `problems.jsonl`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lapis.data.answers import PROBLEMS_NAME, Answers, Question
from lapis.data.captioned import TABLE_NAME, Row
from lapis.data.listing import Listing, Unreadable
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.files import atomic_write
from lapis.values import to_values

WINDOW = 16_384
"""Texts that are gathered before a model is asked, so that those of like length go together."""


@dataclass(frozen=True)
class Verdict:
    """Which texts of an answer are captions, and of the others the reasons."""

    kept: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    """Text and reason; the text is empty where there was none. Reasons are counted by what stands before a colon."""
    answered: bool = True
    """Whether there was an answer; where there was none, asking again may help."""


@dataclass(frozen=True)
class Asked:
    """What was done. `questions` are distinct texts (times languages), `known` of which were answered before."""

    out: Path
    clips: int
    questions: int
    known: int
    captions: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Answers by the reason why they are no captions."""
    unanswered: int = 0
    """Questions among them that got no answer."""
    unreadable: int = 0
    """Clips, or whole shards, that the source could not give."""


def ask(
    config: SourceConfig,
    *,
    out: Path,
    job: Mapping[str, Any],
    questions: Callable[[Sample], Iterable[Question]],
    answer: Callable[[Sequence[Question], Answers], None],
    judge: Callable[[Question, Answers], Verdict],
    restart: bool = False,
    window: int = WINDOW,
    progress: Callable[[int, int | None], None] | None = None,
) -> Asked:
    """Put a source's texts to a model and write the table.

    Args:
        config: the source.
        out: folder of the answers and the table.
        job: what the answers depend on, beside the question.
        questions: what is asked of a clip.
        answer: called with distinct questions; notes answers. What it is called with follows from the source alone.
        judge: which answers are captions.
        restart: throw away what another job has left in the folder.
        window: questions that `answer` is called with.
        progress: called with the number of clips looked at and of all, or None.

    Raises:
        ValueError: the source cannot be opened, or the folder holds the work of another job.
    """
    listing, counts, reasons = Listing(config), Counter[str](), Counter[str]()
    with Answers(out, job={**job, "source": to_values(config)}, restart=restart) as answers:
        with (
            atomic_write(out / TABLE_NAME, binary=False) as table,
            atomic_write(out / PROBLEMS_NAME, binary=False) as listed,
        ):

            def unreadable(place: Unreadable) -> None:
                counts["unreadable"] += 1
                listed.write(_json({"where": place.name, "reason": place.reason}))

            asked = _distinct(listing, questions, counts=counts, unreadable=unreadable, progress=progress)
            for group in _windows(asked, size=window):
                counts["known"] += sum(answers.get(question) is not None for question, _ in group)
                answer([question for question, _ in group], answers)
                for question, key in group:
                    verdict = judge(question, answers)
                    counts["questions"] += 1
                    counts["captions"] += len(verdict.kept)
                    counts["unanswered"] += not verdict.answered
                    reasons.update(reason.partition(": ")[0] for _, reason in verdict.problems)
                    if verdict.kept:
                        table.write(Row(question.text, question.language, question.to, verdict.kept).line())
                    for text, reason in verdict.problems:
                        listed.write(_json(_problem(question, key=key, answer=text, reason=reason)))
        names = ("clips", "questions", "known", "captions", "unanswered", "unreadable")
        totals = {name: counts[name] for name in names}
        answers.describe(**totals, left_out=dict(reasons.most_common()))
        return Asked(out, left_out=dict(reasons.most_common()), **totals)


def _distinct(
    listing: Listing,
    questions: Callable[[Sample], Iterable[Question]],
    *,
    counts: Counter[str],
    unreadable: Callable[[Unreadable], None],
    progress: Callable[[int, int | None], None] | None,
) -> Iterator[tuple[Question, str]]:
    """Each question once, with the key of the first clip that has it."""
    seen: set[bytes] = set()
    total = listing.total if progress else None
    for place in listing:
        if isinstance(place, Unreadable):
            unreadable(place)
            continue
        counts["clips"] += 1
        if progress:
            progress(counts["clips"], total)
        for question in questions(place):
            if (digest := question.digest) not in seen:
                seen.add(digest)
                yield question, place.key


def _windows(items: Iterable[tuple[Question, str]], *, size: int) -> Iterator[list[tuple[Question, str]]]:
    group: list[tuple[Question, str]] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _problem(question: Question, *, key: str, answer: str, reason: str) -> dict[str, Any]:
    asked = {"language": question.language, "to": question.to, "text": question.text}
    return {"key": key, **asked, "answer": answer, "reason": reason}


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"
