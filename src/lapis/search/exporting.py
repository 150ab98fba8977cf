"""An index as a Parquet file, for whatever reads tables: a row a window, written as it is read."""

import json
from dataclasses import asdict
from pathlib import Path

from lapis.files import atomic_write
from lapis.search.filters import Filter
from lapis.search.index import Index
from lapis.search.place import explained

BATCH_ROWS = 8192
METADATA = b"lapis"


def export(index: Index, out: Path, *, where: Filter | None = None) -> int:
    """Write the rows of an index, or those of some files, with all columns; gives how many.

    The file's schema says which model made the vectors, under `lapis`. Memory: some batches of 8,192 rows.

    Raises:
        ValueError: the file does not end in .parquet, or the index is damaged.
    """
    from pyarrow import parquet

    if out.suffix.lower() != ".parquet":
        raise ValueError(f"expected a file that ends in .parquet, got {out}")
    condition = where.sql() if where else None
    query = index.table.search()
    rows = 0
    with atomic_write(out) as file:
        with explained(index.folder, doing="read"):
            batches = (query if condition is None else query.where(condition)).to_batches(BATCH_ROWS)
        said = {METADATA: json.dumps(asdict(index.metadata)).encode()}
        with parquet.ParquetWriter(file, batches.schema.with_metadata(said)) as writer:
            while True:
                with explained(index.folder, doing="read"):
                    batch = next(batches, None)
                if batch is None:
                    return rows
                writer.write_batch(batch.cast(batches.schema.with_metadata(said)))
                rows += batch.num_rows
