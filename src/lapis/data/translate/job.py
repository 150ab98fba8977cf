"""The captions of a source translated: distinct texts, in batches of like lengths, checked, and kept as a table.

Which texts go together follows from the source alone, not from where the work was stopped before: a batch of which any
text has no answer is done as a whole. The way back, where it is asked for, is one more question to the same model.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lapis.data.answers import Answer, Answers, Question
from lapis.data.asking import WINDOW, Asked, Verdict, ask
from lapis.data.captions import normalized
from lapis.data.cleaning import SCRIPTS
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.data.translate.checks import Checks
from lapis.data.translate.models import Translator

BATCH_TOKENS = 4096
TOO_LONG = "text longer than the model takes"
UNFINISHED = "translation that does not end"
Tell = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Translated:
    """What was done; `have` clips had captions of their own in a language that was asked for, counted by it."""

    asked: Asked
    have: dict[str, int]


def translate(
    config: SourceConfig,
    *,
    translator: Translator,
    to: Sequence[str],
    out: Path | str,
    source: str = "eng_Latn",
    checks: Checks | None = None,
    batch_tokens: int = BATCH_TOKENS,
    window: int = WINDOW,
    restart: bool = False,
    progress: Tell | None = None,
) -> Translated:
    """Write a table of translations of a source's captions into `out`.

    Clips that have captions in a language already are not asked about in it.

    Args:
        config: the source.
        translator: the model.
        to: languages, as FLORES-200 codes.
        out: folder of the table and the journal.
        source: the language of the captions that are translated.
        checks: which translations are left out.
        batch_tokens: tokens of a batch, the padding counted.
        window: texts (times languages) among which those of like length are found.
        restart: throw away what another job has left in the folder.
        progress: called with what is done, how much of it, and of how much.

    Raises:
        ValueError: a language is unknown, or the same as the source's, or the source cannot be opened.
    """
    checks = checks or Checks()
    if not to or batch_tokens < 1:
        raise ValueError(f"expected languages and at least one token a batch, got {list(to)} and {batch_tokens}")
    for language in (source, *to):
        if language.partition("_")[2] not in SCRIPTS:
            raise ValueError(f"expected languages as FLORES-200 codes such as deu_Latn, got {language!r}")
    if source in to or len(set(to)) < len(to):
        raise ValueError(f"expected other languages than {source}, each once, got {list(to)}")
    for language in to:
        translator.check(source=source, target=language)
        if checks.least_back is not None:
            translator.check(source=language, target=source)
    work = _Work(translator, checks, source, tuple(to), batch_tokens, Counter(), progress)
    asked = ask(
        config,
        out=Path(out),
        job=dict(translator.identity) | {"from": source, "batch_tokens": batch_tokens, "window": window},
        questions=work.questions,
        answer=work.answer,
        judge=work.judge,
        restart=restart,
        window=window,
        progress=None if progress is None else lambda done, total: progress("reading", done, total),
    )
    return Translated(asked, dict(work.have))


@dataclass
class _Work:
    """The parts of the job."""

    translator: Translator
    checks: Checks
    source: str
    to: tuple[str, ...]
    batch_tokens: int
    have: Counter[str]
    progress: Tell | None

    def questions(self, sample: Sample) -> Iterator[Question]:
        texts = [text for text in map(normalized, sample.captions.get(self.source, ())) if text]
        for language in self.to:
            if any(sample.captions.get(language, ())):
                self.have[language] += 1
                continue
            yield from (Question(text, self.source, language) for text in texts)

    def answer(self, questions: Sequence[Question], answers: Answers) -> None:
        for language in self.to:
            forward = [question for question in questions if question.to == language]
            self._translate(forward, answers, source=self.source, target=language)
            if self.checks.least_back is not None:
                back = [asked for asked in (self._back(question, answers) for question in forward) if asked is not None]
                self._translate(list(dict.fromkeys(back)), answers, source=language, target=self.source)

    def _translate(self, questions: Sequence[Question], answers: Answers, *, source: str, target: str) -> None:
        if all(answers.get(question) is not None for question in questions):
            return
        lengths = self.translator.lengths([question.text for question in questions], source=source)
        done = 0
        for batch in in_batches(lengths, tokens=self.batch_tokens):
            asked = [questions[number] for number in batch]
            if any(answers.get(question) is None for question in asked):
                texts = [question.text for question in asked]
                made = self.translator.translate(texts, source=source, target=target)
                answers.add(zip(asked, made, strict=True))
            done += len(asked)
            if self.progress:
                self.progress(f"{source} to {target}", done, len(questions))

    def _back(self, question: Question, answers: Answers) -> Question | None:
        """The question back, of a translation that is good so far."""
        answer = answers.get(question)
        if answer is None or self._problem(question, answer) is not None:
            return None
        return Question(answer.texts[0], question.to, self.source)

    def _problem(self, question: Question, answer: Answer) -> str | None:
        if not answer.texts:
            return TOO_LONG
        # What goes on without end mostly repeats itself, which says more.
        found = self.checks.problem(question.text, answer.texts[0], to=question.to)
        return found or (None if answer.finished else UNFINISHED)

    def judge(self, question: Question, answers: Answers) -> Verdict:
        answer = answers.get(question)
        assert answer is not None, "every question of a window has been answered"
        problem, text = self._problem(question, answer), (answer.texts or ("",))[0]
        if problem is None and self.checks.least_back is not None:
            back = answers.get(Question(text, question.to, self.source))
            problem = self.checks.back_problem(question.text, (back.texts or (None,))[0] if back else None)
        return Verdict(kept=(text,)) if problem is None else Verdict(problems=((text, problem),))


def in_batches(lengths: Sequence[int], *, tokens: int) -> Iterable[list[int]]:
    """Numbers of texts that go together: of like length, in batches of so many tokens with their padding."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda of: (lengths[of], of)):
        if batch and (len(batch) + 1) * lengths[number] > tokens:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
