"""What a job has finished: a line of JSON a shard, appended when the shard is on disk.

A line that was cut by a crash is dropped; the last line of a shard is the one that holds. When the job is finished the
lines stand in the order of the shards, whatever order they came in.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar, get_type_hints

from lapis.data.writing import index_path
from lapis.files import atomic_write

JOURNAL_NAME = "shards.jsonl"


@dataclass(frozen=True)
class Problem:
    """A clip that was left out, or kept though something is amiss."""

    number: int
    """Of its place in the source."""
    key: str
    where: str
    reason: str
    left_out: bool = True


@dataclass(frozen=True)
class Done:
    """A finished shard; one in which no clip could be read has no file."""

    number: int
    plan: str
    """A digest of what was to be in it."""
    file: str | None
    clips: int
    seconds: float
    num_bytes: int
    sha256: str | None
    problems: Sequence[Problem] = ()


Made = TypeVar("Made")
TYPES: dict[type, dict[str, Any]] = {
    kind: {**get_type_hints(kind), "problems": tuple, "seconds": float | int} for kind in (Problem, Done)
}


class Journal:
    """The finished shards of a folder, those that are called `name-NUMBER.tar`; a context, open for adding."""

    def __init__(self, folder: Path, *, name: str) -> None:
        self.path = folder / JOURNAL_NAME
        self._folder = folder
        self._own = re.compile(rf"{re.escape(name)}-\d{{6,}}\.tar")
        self.done: dict[int, Done] = {}

    def __enter__(self) -> "Journal":
        if self.path.exists():
            for line in self.path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    done = _parsed(line, path=self.path)
                    self.done[done.number] = done
        self._rewrite()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _rewrite(self) -> None:
        """The lines that hold, in order: nothing is ever appended to half a line."""
        self.done = dict(sorted(self.done.items()))
        with atomic_write(self.path, binary=False) as file:
            file.writelines(_line(done) for done in self.done.values())
        self._file: IO[str] = self.path.open("a", encoding="utf-8", errors="backslashreplace")

    def add(self, done: Done) -> None:
        """Note a shard that is on disk."""
        self._file.write(_line(done))
        self._file.flush()
        self.done[done.number] = done

    def holds(self, number: int, *, plan: str, retry: bool) -> bool:
        """Whether a shard is there as it was planned; with `retry`, and with all its clips."""
        done = self.done.get(number)
        if done is None or done.plan != plan or (retry and any(problem.left_out for problem in done.problems)):
            return False
        if done.file is None:
            return True
        path = self._folder / done.file
        return path.is_file() and path.stat().st_size == done.num_bytes and index_path(path).is_file()

    def finish(self, num_shards: int) -> None:
        """Bring the lines in order, and delete shards of this name that are not among the first so many.

        There are such if the source has become shorter, or if a process was killed before its shard was noted.
        """
        self.done = {number: done for number, done in self.done.items() if number < num_shards}
        known = {done.file for done in self.done.values()}
        for path in self._folder.glob("*.tar"):
            if self._own.fullmatch(path.name) and path.name not in known:
                path.unlink()
                index_path(path).unlink(missing_ok=True)
        self._file.close()
        self._rewrite()


def _line(done: Done) -> str:
    return json.dumps(asdict(done), ensure_ascii=False) + "\n"


def _parsed(line: bytes, *, path: Path) -> Done:
    try:
        values = json.loads(line)
        problems = tuple(_of_types(Problem, problem) for problem in values.pop("problems"))
        done = _of_types(Done, values | {"problems": problems})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): throw the folder's shards away with --restart") from error
    if done.file is not None and ("/" in done.file or not done.file.endswith(".tar")):
        raise ValueError(f"{path} names {done.file!r}: expected a tar of the folder")
    return done


def _of_types(kind: type[Made], values: Mapping[str, Any]) -> Made:
    for name, value in values.items():
        if not isinstance(value, TYPES[kind][name]):
            raise TypeError(f"{name} is {value!r}")
    return kind(**values)
