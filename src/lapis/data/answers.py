"""What a model has been asked and has answered: a journal in a folder, a line of JSON an answer, as they come.

It belongs to one job. Whoever comes back after any interruption finds all answers whose line was written.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lapis.data.captioned import TABLE_NAME
from lapis.files import atomic_write, locked

FORMAT = 1
JOB_NAME = "asked.json"
JOURNAL_NAME = "answers.jsonl"
PROBLEMS_NAME = "problems.jsonl"
LOCK_NAME = ".lock"


@dataclass(frozen=True)
class Question:
    """A text, what language it is in (None: it is the labels of a clip) and in which one an answer is wanted.

    The text is `normalized`, so that it is found again as it was written.
    """

    text: str
    language: str | None
    to: str

    @property
    def digest(self) -> bytes:
        """By what an answer is found again."""
        words = json.dumps((self.language, self.to, self.text))
        return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class Answer:
    """What a model said: one text or several, and whether it came to an end by itself."""

    texts: tuple[str, ...]
    finished: bool = True


class Answers:
    """The journal of a folder, a context. It belongs to one job: another model's answers are not mixed with it.

    Raises:
        ValueError: the folder holds another job's answers or other files, is in use, or is damaged.
    """

    def __init__(self, out: Path, *, job: Mapping[str, Any], restart: bool = False) -> None:
        self.path = out / JOURNAL_NAME
        self._out, self._job, self._restart = out, json.loads(json.dumps({"format": FORMAT} | dict(job))), restart
        self._known: dict[bytes, Answer] = {}

    def __enter__(self) -> "Answers":
        self._out.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self._out / LOCK_NAME)
        self._lock.__enter__()
        try:
            self._begin()
            self._read()
        except BaseException as error:
            self._lock.__exit__(type(error), error, error.__traceback__)
            raise
        self._file: IO[str] = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.__exit__(kind, error, trace)

    def _begin(self) -> None:
        path = self._out / JOB_NAME
        if path.exists() and self._restart:
            for name in (JOURNAL_NAME, TABLE_NAME, PROBLEMS_NAME, JOB_NAME):
                (self._out / name).unlink(missing_ok=True)
        if not path.exists():
            if strange := sorted(found.name for found in self._out.iterdir() if found.name[0] != "."):
                raise ValueError(
                    f"{self._out} holds other files ({strange[0]}): expected an empty folder, or one of this command"
                )
            self.describe()
            return
        try:
            there = json.loads(path.read_text(encoding="utf-8"))["job"]
            differing = [name for name in self._job if there.get(name) != self._job[name]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}): throw the answers away with --restart") from error
        if differing:
            name = differing[0]
            raise ValueError(
                f"{self._out} holds the answers of another job, it differs in {name}: {there.get(name)}, now "
                f"{self._job[name]}. Choose another --out, or throw them away with --restart"
            )

    def describe(self, **totals: Any) -> None:
        """Write down what the job is, and what came of it."""
        with atomic_write(self._out / JOB_NAME, binary=False) as file:
            json.dump({"job": self._job, **totals}, file, indent=2, ensure_ascii=False)

    def _read(self) -> None:
        if not self.path.exists():
            return
        whole = 0  # bytes of whole lines: one that a crash has cut is not appended to
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                question, answer = self._parsed(line)
                self._known[question.digest] = answer
        with self.path.open("r+b") as file:
            file.truncate(whole)

    def _parsed(self, line: bytes) -> tuple[Question, Answer]:
        try:
            values = json.loads(line)
            question = Question(values["text"], values["language"], values["to"])
            return question, Answer(tuple(map(str, values["answers"])), bool(values["finished"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{self.path} is damaged ({error}): throw the answers away with --restart, or mend the line {line[:80]}"
            ) from error

    def __len__(self) -> int:
        """The number of answers."""
        return len(self._known)

    def get(self, question: Question) -> Answer | None:
        """What is known."""
        return self._known.get(question.digest)

    def add(self, answered: Iterable[tuple[Question, Answer]]) -> None:
        """Note answers; those that are there stay."""
        lines = []
        for question, answer in answered:
            if self._known.setdefault(question.digest, answer) is answer:
                values = {"language": question.language, "to": question.to, "text": question.text}
                values |= {"answers": list(answer.texts), "finished": answer.finished}
                lines.append(json.dumps(values, ensure_ascii=False) + "\n")
        self._file.write("".join(lines))
        self._file.flush()
