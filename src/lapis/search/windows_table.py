"""The table of windows as updating needs it: what it knows of files, their rows in and out, whole files in one commit.

Writers do not wait for each other. Where another's commit came between, LanceDB looks again at what is there; where it
has tried too often, we try again after a random wait.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lapis.search.columns import KEY, Labels, Stamp, is_below, is_one_of
from lapis.search.place import Place, explained

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R")
A_CONDITION = 500
"""Names in one condition."""
ATTEMPTS = 12
LONGEST_WAIT_SECONDS = 5.0
# A reader that opened a version keeps its files for so long after an update has compacted the table.
KEEP_OLD_VERSIONS = timedelta(hours=1)
# A condition on fewer rows is as quick without.
ROWS_WORTH_AN_INDEX = 100_000
SCALAR_INDICES = {"path": "BTREE", "audio_hash": "BTREE", "duration_seconds": "BTREE", "modified": "BTREE"}
SCALAR_INDICES |= {"tags": "LABEL_LIST"}


@dataclass(frozen=True)
class Known:
    """What a table says of a file, beside its vectors."""

    stamp: Stamp
    labels: Labels


class WindowsTable:
    """LanceDB's table, and where it lies."""

    def __init__(self, table: Any, *, place: Place) -> None:
        self.table, self.place = table, place

    def stamps(
        self, *, below: Path | None = None, paths: Iterable[Path] | Iterable[str] | None = None
    ) -> dict[Path, Stamp]:
        """Of the files of a folder, or of these files, or of all."""
        conditions = ["window = 0" if below is None else f"window = 0 AND {is_below(below)}"]
        if paths is not None:
            conditions = [f"window = 0 AND {is_one_of('path', some)}" for some in _in_groups(sorted(map(str, paths)))]
        return {
            Path(row["path"]): Stamp(row["size"], row["mtime_ns"])
            for condition in conditions
            for row in self._rows(condition, ["path", "size", "mtime_ns"])
        }

    def known(self, paths: Iterable[Path]) -> dict[Path, Known]:
        """What is known of those of these files that are in the table."""
        columns = ["path", "size", "mtime_ns", "tags", "text"]
        return {
            Path(row["path"]): Known(Stamp(row["size"], row["mtime_ns"]), Labels(tuple(row["tags"]), row["text"]))
            for some in _in_groups(sorted(paths))
            for row in self._rows(f"window = 0 AND {is_one_of('path', some)}", columns)
        }

    def with_content(self, contents: Mapping[str, int]) -> dict[str, list[Path]]:
        """The files of each hash, of those with its size."""
        found: dict[str, list[Path]] = {}
        for some in _in_groups(sorted(contents)):
            for row in self._rows(f"window = 0 AND {is_one_of('audio_hash', some)}", ["path", "audio_hash", "size"]):
                if contents[row["audio_hash"]] == row["size"]:
                    found.setdefault(row["audio_hash"], []).append(Path(row["path"]))
        return {audio_hash: sorted(paths) for audio_hash, paths in found.items()}

    def rows_of(self, path: Path, *, audio_hash: str) -> "pa.Table":
        """All rows of a file as long as it has this content."""
        condition = f"{is_one_of('path', [path])} AND {is_one_of('audio_hash', [audio_hash])}"
        with explained(self.place, doing="read"):
            return self.table.search().where(condition).to_arrow()

    def append(self, rows: "pa.Table") -> None:
        """Write rows of files of which the table has none, while nobody else writes: no key is looked at."""
        with explained(self.place, doing="written"):
            self._patiently(lambda: self.table.add(rows))

    def replace(self, rows: "pa.Table", *, of: Iterable[Path] | Iterable[str]) -> None:
        """Write the rows of files, and delete what else the table has of these files, in one commit."""

        def merge() -> None:
            (
                self.table.merge_insert(list(KEY))
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .when_not_matched_by_source_delete(is_one_of("path", of))
                .use_index(False)  # with the index on paths, 512 rows into 320,000 took 1.1 s in place of 0.08 s
                .execute(rows)
            )

        of = sorted(map(str, of))
        with explained(self.place, doing="written"):
            self._patiently(merge)

    def delete(self, paths: Iterable[Path] | Iterable[str]) -> None:
        """Delete all rows of these files."""
        for some in _in_groups(sorted(map(str, paths))):
            with explained(self.place, doing="written"):
                self._patiently(lambda some=some: self.table.delete(is_one_of("path", some)))

    def compact(self) -> None:
        """Make few files of many, forget versions older than an hour, and bring the indices up to date.

        A condition on a folder, a length, a date or tags is answered by an index from 100,000 rows on.
        """
        with explained(self.place, doing="written"):
            if self.table.count_rows() >= ROWS_WORTH_AN_INDEX:
                there = {column for index in self.table.list_indices() for column in index.columns}
                for column, kind in SCALAR_INDICES.items():
                    if column not in there:
                        self._patiently(
                            lambda column=column, kind=kind: self.table.create_scalar_index(column, index_type=kind)
                        )
            self._patiently(lambda: self.table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS))

    def _rows(self, condition: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        with explained(self.place, doing="read"):
            return self.table.search().where(condition).select(list(columns)).to_arrow().to_pylist()

    def _patiently(self, work: Callable[[], R]) -> R:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.table.checkout_latest()
                return work()
            except (OSError, RuntimeError, ValueError) as error:
                told = str(error).lower()
                if attempt == ATTEMPTS or not ("conflict" in told or "concurrent" in told):
                    raise
                time.sleep(random.SystemRandom().uniform(0, min(0.05 * 2**attempt, LONGEST_WAIT_SECONDS)))
        raise AssertionError("unreachable: the last attempt returns or raises")


def _in_groups(names: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(names), A_CONDITION):
        yield names[begin : begin + A_CONDITION]
