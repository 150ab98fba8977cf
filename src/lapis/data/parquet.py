"""Sounds that stand in a Parquet table, as the hub has them: read from it one by one, when they are asked for."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

GROUPS_KEPT = 2
"""Of rows: the smallest part of a table that can be read. Clips are mostly asked for in their order."""


@dataclass(frozen=True)
class ParquetCell:
    """A sound in a column of a Parquet table, in a row of one of its groups of rows."""

    path: Path
    group: int
    row: int
    column: str
    number: int
    """Of the row in the table, from 1."""
    sound_name: str | None = None
    """As the table calls the sound."""

    def open(self) -> Path | bytes:
        """The sound's bytes, or the path that the table names, relative to its folder.

        Raises:
            ValueError: there is neither.
        """
        state = self.path.stat()
        cell = _column(self.path, self.group, self.column, (state.st_size, state.st_mtime_ns))[self.row].as_py()
        sound = sound_of_cell(cell, name=str(self))
        return self.path.parent / sound if isinstance(sound, Path) else sound

    def __str__(self) -> str:
        return f"{self.path}, row {self.number}, {self.column}"


def parquet_rows(path: Path, *, audio: str) -> list[dict[str, Any]]:
    """The rows of a table; where column `audio` holds sounds, not paths, a `ParquetCell` stands for each of them.

    Raises:
        ValueError: it is no Parquet table.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("Parquet needs an extra: pip install 'lapis-audio[train]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            kind = schema.field(audio).type if audio in schema.names else pa.string()
            is_struct = pa.types.is_struct(kind)
            if not (is_struct or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
                return file.read().to_pylist()
            fields = {kind.field(number).name for number in range(kind.num_fields)}
            if is_struct and not fields & {"bytes", "path"}:
                raise ValueError(f"{path}: expected bytes or path in column {audio!r}, it has {sorted(fields)}")
            columns = [name for name in schema.names if name != audio]
            rows = file.read(columns).to_pylist()
            names = file.read([f"{audio}.path"]).to_pylist() if "path" in fields else [{}] * file.metadata.num_rows
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    except pa.ArrowException as error:
        raise ValueError(f"{path} is not a Parquet table: {error}") from error
    places = [(group, row) for group, size in enumerate(sizes) for row in range(size)]
    if not columns:
        rows = [{} for _ in places]
    cells = (
        ParquetCell(path, *place, audio, number, (found.get(audio) or {}).get("path"))
        for number, (place, found) in enumerate(zip(places, names, strict=True), start=1)
    )
    return [{**row, audio: cell} for row, cell in zip(rows, cells, strict=True)]


def sound_of_cell(cell: Any, *, name: str) -> Path | bytes:
    """The bytes in a cell, or else the path.

    Raises:
        ValueError: there is neither.
    """
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, bytes):
        return content
    if isinstance(cell, dict) and isinstance(cell.get("path"), str):
        return Path(cell["path"])
    raise ValueError(f"{name}: expected a sound, its bytes or its path, there is neither")


@lru_cache(maxsize=GROUPS_KEPT)
def _column(path: Path, group: int, column: str, state: tuple[int, int]) -> Any:
    """A column of a group of rows, as the file is now."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        # By this thread alone: the ones of a pool would be missing in a worker that is a copy of its parent.
        return file.read_row_group(group, columns=[column], use_threads=False).column(0)
