"""Captions made by a language model behind an address: of captions other words, of labels sentences.

Each distinct text is asked about once; answers are noted as they come, and cleaned at the end of every run.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lapis.data.answers import Answer, Answers, Question
from lapis.data.asking import Asked, Verdict, ask
from lapis.data.captioned import labels_text
from lapis.data.captions import normalized
from lapis.data.cleaning import Cleaning, letters_of
from lapis.data.endpoint import Endpoint, RefusedError, Said
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.data.storage import StorageError
from lapis.data.translate.names import english_name

Task = Literal["paraphrase", "describe"]
PROMPTS: dict[str, str] = {
    "paraphrase": (
        "Below is a caption of an audio recording. Write {count} other captions in {language} that say the same in "
        "other words. Add nothing that it does not say. One caption a line, without numbers or quotes.\n\n{text}"
    ),
    "describe": (
        "An audio recording has these labels: {text}. Write {count} captions in {language}, each one short sentence on "
        "what is heard. Add nothing that the labels do not say. One caption a line, without numbers or quotes."
    ),
}
MOST_RATIO, FREE_LETTERS = 4.0, 40
"""A paraphrase may be so many times longer than the caption, and a few letters more."""
FAILURES_IN_A_ROW = 5
"""So many texts without any answer, one after another, and the server is taken to be away."""
WINDOW = 1024
LINE_MARK = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):])\s+")
THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"
QUOTES = "\"'“”„«»「」"


@dataclass(frozen=True)
class Rewriting:
    """What a model is asked for.

    Args:
        task: "paraphrase" captions, or "describe" the labels of clips that have no caption in the language.
        language: of what is asked about and of the answers, as a FLORES-200 code.
        count: captions that are asked for, of each text.
        prompt: with {text}, {count} and {language} in it; the task's own unless told.
        cleaning: which answers are left out.
    """

    task: Task = "paraphrase"
    language: str = "eng_Latn"
    count: int = 1
    prompt: str = ""
    cleaning: Cleaning = field(default=Cleaning(refusals=True))

    def __post_init__(self) -> None:
        if self.task not in PROMPTS or self.count < 1:
            raise ValueError(f"expected one of {sorted(PROMPTS)} and a count above zero, got {self.task}, {self.count}")
        if self.prompt and "{text}" not in self.prompt:
            raise ValueError(f"prompt: expected {{text}} in it, got {self.prompt!r}")
        english_name(self.language)

    def filled(self, text: str) -> str:
        """The prompt about a text."""
        prompt = self.prompt or PROMPTS[self.task]
        for place, words in {"count": str(self.count), "language": english_name(self.language), "text": text}.items():
            prompt = prompt.replace(f"{{{place}}}", words)
        return prompt

    def questions(self, sample: Sample) -> Iterator[Question]:
        """What is asked about a clip."""
        captions = [text for text in map(normalized, sample.captions.get(self.language, ())) if text]
        if self.task == "paraphrase":
            yield from (Question(text, self.language, self.language) for text in captions)
        elif sample.labels and not captions:
            yield Question(labels_text(sample), None, self.language)

    def captions_in(self, said: Said) -> Answer:
        """The captions in what a model said."""
        # Many servers take the first mark for a part of the prompt and send the last one alone.
        text = said.text.rpartition(THOUGHT_ENDS)[2].partition(THOUGHT_BEGINS)[0]
        lines = [LINE_MARK.sub("", line).strip().strip(QUOTES).strip() for line in text.splitlines()]
        return Answer(tuple(normalized(line) for line in lines if line), said.finished)

    def judge(self, question: Question, answer: Answer) -> Verdict:
        """Which of the captions are good."""
        kept: list[str] = []
        problems: list[tuple[str, str]] = []
        for number, text in enumerate(answer.texts):
            is_last = number == len(answer.texts) - 1
            problem = self._problem(question, text)
            if problem is None and text.casefold() in map(str.casefold, kept):
                problem = "rewriting that is there already"
            if problem is None and len(kept) == self.count:
                problem = "more captions than were asked for"
            if problem is None and is_last and not answer.finished:
                problem = "rewriting that does not end"
            if problem is None:
                kept.append(text)
            else:
                problems.append((text, problem))
        return Verdict(tuple(kept), tuple(problems) if answer.texts else (("", "empty answer"),))

    def _problem(self, question: Question, text: str) -> str | None:
        if (found := self.cleaning.problem(text, language=question.to)) is not None:
            return found
        if question.language is None:
            return None
        if text.casefold() == question.text.casefold():
            return "rewriting that is the text itself"
        if letters_of(text) > MOST_RATIO * letters_of(question.text) + FREE_LETTERS:
            return "rewriting much longer than the text"
        return None


def rewrite(
    config: SourceConfig,
    *,
    endpoint: Endpoint,
    out: Path | str,
    rewriting: Rewriting | None = None,
    concurrency: int = 8,
    restart: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Asked:
    """Write a table of captions that a model made of those of a source, or of its labels, into `out`.

    Args:
        config: the source.
        endpoint: the model.
        out: folder of the table and the journal.
        rewriting: what is asked for.
        concurrency: requests at a time.
        restart: throw away what another job has left in the folder.
        progress: called with what is done, how much of it, and of how much.

    Raises:
        ValueError: the source cannot be opened, or the server knows no such model or key, or refuses every text.
        StorageError: the server does not answer; what it has answered is kept.
    """
    rewriting = rewriting or Rewriting()
    if concurrency < 1:
        raise ValueError(f"expected at least one request at a time, got {concurrency}")
    work = _Work(endpoint, rewriting, concurrency, progress)
    job = {"model": endpoint.model, "prompt": rewriting.prompt or PROMPTS[rewriting.task], "count": rewriting.count}
    job |= {"task": rewriting.task, "language": rewriting.language}
    job |= {"temperature": endpoint.temperature, "max_tokens": endpoint.max_tokens, "seed": endpoint.seed}
    return ask(
        config,
        out=Path(out),
        job=job,
        questions=rewriting.questions,
        answer=work.answer,
        judge=work.judge,
        restart=restart,
        window=WINDOW,
    )


@dataclass
class _Work:
    """The requests, so many at a time."""

    endpoint: Endpoint
    rewriting: Rewriting
    concurrency: int
    progress: Callable[[str, int, int | None], None] | None
    done: int = 0
    failures: dict[Question, str] = field(default_factory=dict)
    """Of this window."""
    in_a_row: int = 0
    """Texts without an answer since the last that had one."""

    def answer(self, questions: Sequence[Question], answers: Answers) -> None:
        self.failures.clear()
        remaining = iter([question for question in questions if answers.get(question) is None])
        self._tell(sum(answers.get(question) is not None for question in questions))
        pool, stop = ThreadPoolExecutor(self.concurrency), threading.Event()
        pending: dict[Future[Said], Question] = {}
        try:
            while True:
                # What is on its way may yet be the first answer; nothing else is asked until it is there.
                refuses = self.in_a_row >= FAILURES_IN_A_ROW
                # No more than are being asked: whoever stops the work waits for these only.
                while (
                    not refuses and len(pending) < self.concurrency and (question := next(remaining, None)) is not None
                ):
                    prompt = self.rewriting.filled(question.text)
                    pending[pool.submit(self.endpoint.ask, prompt, stopped=stop.is_set)] = question
                if not pending and refuses:
                    last = list(self.failures.values())[-1]
                    raise ValueError(f"{self.endpoint.address}: no answer to {self.in_a_row} texts; the last: {last}")
                if not pending:
                    break
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    question = pending.pop(future)
                    self._take(future, question, answers=answers)
                    self._tell(1)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _take(self, future: Future[Said], question: Question, *, answers: Answers) -> None:
        """Note an answer, or that there is none."""
        try:
            said = future.result()
        except RefusedError as error:
            self.failures[question] = str(error)
            # Once it has answered anything, a text that is refused is that text's fault, and is so in every run.
            self.in_a_row += not len(answers)
        except StorageError as error:
            self.failures[question] = str(error)
            self.in_a_row += 1
            if self.in_a_row >= FAILURES_IN_A_ROW:
                raise
        else:
            answers.add([(question, self.rewriting.captions_in(said))])
            self.in_a_row = 0

    def _tell(self, count: int) -> None:
        self.done += count
        if self.progress:
            self.progress("texts", self.done, None)

    def judge(self, question: Question, answers: Answers) -> Verdict:
        answer = answers.get(question)
        if answer is None:
            return Verdict(problems=(("", f"no answer: {self.failures[question]}"),), answered=False)
        return self.rewriting.judge(question, answer)
