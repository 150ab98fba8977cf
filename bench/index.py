"""Search among many vectors: exact, with the table's index, in a map of it; with conditions, and while rows come.

The vectors stand for those of sounds: in clusters of about a hundred, of 48 dimensions, in a cone (a direction common
to all), with noise in all dimensions. Queries are new vectors of these clusters, and vectors as far from all rows as
those of texts are (`lapis.search.recall.far_from`). Both are made block by block; memory never holds all of them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import BTree

from lapis.search import approximate
from lapis.search.mapping import build_map, refresh_map
from lapis.search.recall import exact, far_from

INTRINSIC = 48
CLUSTER_ROWS = 100
BLOCK_ROWS = 20_000
PARTS = 1000
CONDITIONS = {"all rows": None, "1 row in 5": "part < 200", "1 row in 1000": "part = 7"}
COLUMNS = ["path", "start_seconds", "end_seconds"]
DEPTH = 10
APPEND_ROWS = 500


@dataclass(frozen=True)
class Corpus:
    """Vectors that are computed from their numbers."""

    rows: int
    width: int
    half: bool

    @cached_property
    def _space(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        basis = np.linalg.qr(random.standard_normal((self.width, INTRINSIC)))[0].T.astype(np.float32)
        centres = random.standard_normal((max(1, self.rows // CLUSTER_ROWS), INTRINSIC), np.float32)
        common = random.standard_normal(self.width, np.float32)
        return basis, centres, common / np.linalg.norm(common)

    def vectors(self, *seed: int, count: int) -> np.ndarray:
        """Unit vectors of the clusters; the same for the same seed."""
        random = np.random.default_rng(seed)
        basis, centres, common = self._space
        places = centres[random.integers(len(centres), size=count)]
        places = places + 0.6 * random.standard_normal(places.shape, np.float32)
        vectors = places @ basis
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        noise = random.standard_normal((count, self.width), np.float32) / np.float32(self.width**0.5)
        vectors = vectors + np.float32(0.5) * common + np.float32(0.3) * noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    @property
    def schema(self) -> pa.Schema:
        """As the index of sounds has it, and a number to make conditions of."""
        number = pa.float16() if self.half else pa.float32()
        return pa.schema(
            {
                "path": pa.string(),
                "window": pa.int32(),
                "start_seconds": pa.float64(),
                "end_seconds": pa.float64(),
                "part": pa.int32(),
                "vector": pa.list_(number, self.width),
            }
        )

    def batch(self, vectors: np.ndarray, *, first: int) -> pa.RecordBatch:
        """Rows that begin with this number."""
        numbers = np.arange(first, first + len(vectors))
        values = pa.array(vectors.astype(np.float16 if self.half else np.float32).reshape(-1))
        columns = [
            [f"/sounds/{number // 1000:06}/{number:09}.wav" for number in numbers],
            pa.array(np.zeros(len(numbers), np.int32)),
            pa.array(np.zeros(len(numbers))),
            pa.array(np.full(len(numbers), 10.0)),
            pa.array((numbers % PARTS).astype(np.int32)),
            pa.FixedSizeListArray.from_arrays(values, self.width),
        ]
        return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=self.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows."""
        for first in range(0, self.rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, self.rows - first)
            yield self.batch(self.vectors(1, first, count=count), first=first)


class Report:
    """What was measured so far, printed line by line and written whole after each."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.content: dict[str, Any] = {}

    def add(self, name: str, figures: dict[str, Any]) -> None:
        """Tell figures, and keep them."""
        self.content[name] = figures
        told = "  ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
        )
        print(f"{name:44} {told}", flush=True)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps(self.content, indent=1))

    @contextmanager
    def doing(self, name: str) -> Iterator[dict[str, Any]]:
        """Time of a piece of work, and the most memory that the process had of its own in it, without mapped files."""
        figures: dict[str, Any] = {}
        ended, peak = threading.Event(), [own_megabytes()]

        def watch() -> None:
            while not ended.wait(0.05):
                peak[0] = max(peak[0], own_megabytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        begin = time.perf_counter()
        try:
            yield figures
        finally:
            figures |= {"seconds": time.perf_counter() - begin}
            ended.set()
            watcher.join()
        self.add(name, figures | {"peak_megabytes": peak[0]})


def own_megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def gigabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def told(seconds: list[float]) -> dict[str, float]:
    return {f"p{share}_ms": float(np.percentile(seconds, share)) * 1000 for share in (50, 95, 99)}


def timed(ask: Callable[[np.ndarray], pa.Table], queries: np.ndarray, *, truth: np.ndarray, rounds: int) -> dict:
    """Latency of one query after another, the processor time they took, and how many of the true nearest paths come."""
    seconds, hits = [], 0
    ask(queries[0])
    worked = time.process_time()
    for number in range(rounds):
        for vector, paths in zip(queries, truth):
            begin = time.perf_counter()
            found = ask(vector)
            seconds.append(time.perf_counter() - begin)
            if number == 0:
                hits += len(set(found.column("path").to_pylist()) & set(paths))
    worked = (time.process_time() - worked) / len(seconds)
    figures = {"processor_ms": 1000 * worked, "queries": len(seconds)}
    return {"recall": hits / sum(map(len, truth))} | told(seconds) | figures


def paths_of(table: Any, rows: np.ndarray) -> list[list[str]]:
    numbers = np.unique(rows).tolist()
    taken = table.take_row_ids(numbers).select(["path"]).with_row_id().to_arrow()
    path = dict(zip(taken.column("_rowid").to_pylist(), taken.column("path").to_pylist()))
    return [[path[number] for number in of] for of in rows.tolist()]


def connect(folder: Path) -> Any:
    return lancedb.connect(folder, read_consistency_interval=timedelta(0))


def append(folder: Path, corpus: Corpus, *, commits: int) -> None:
    """The other process: adds rows, and tells of each commit."""
    table = connect(folder).open_table("windows")
    for number in range(commits):
        vectors = corpus.vectors(3, number, count=APPEND_ROWS)
        first = 2 * corpus.rows + number * APPEND_ROWS
        table.add(pa.Table.from_batches([corpus.batch(vectors, first=first)]))
        print(number, flush=True)
        time.sleep(0.05)


def while_appending(folder: Path, table: Any, corpus: Corpus, *, commits: int, options: list[str]) -> dict[str, Any]:
    """Search while another process appends: has each answer its rows, and is each row found once it was committed?"""
    command = [sys.executable, __file__, *options, "--append-to", str(folder), "--commits", str(commits)]
    queries = corpus.vectors(4, count=50)
    seconds, short, missed, checked, known, asked = [], 0, 0, 0, 0, 0
    before = table.count_rows()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    done: list[int] = []
    reader = threading.Thread(target=lambda: done.extend(int(line) for line in process.stdout))
    reader.start()
    while reader.is_alive() or checked < len(done):
        while checked < len(done):  # the first row of each commit is looked for as soon as the commit is told
            number = done[checked]
            vector = corpus.vectors(3, number, count=APPEND_ROWS)[0]
            found = approximate.nearest(table, vector, depth=1, columns=["path"])
            wanted = corpus.batch(vector[None], first=2 * corpus.rows + number * APPEND_ROWS).column("path")[0].as_py()
            missed += found.column("path").to_pylist() != [wanted]
            checked += 1
        begin = time.perf_counter()
        found = approximate.nearest(table, queries[asked % len(queries)], depth=DEPTH, columns=COLUMNS)
        seconds.append(time.perf_counter() - begin)
        asked += 1
        short += found.num_rows != DEPTH
        known += len(set(found.column("path").to_pylist())) != found.num_rows
    if process.wait() != 0:
        raise RuntimeError("the process that appends failed")
    return {
        "commits": commits,
        "rows_more": table.count_rows() - before,
        "rows_expected": commits * APPEND_ROWS,
        "commits_not_found": missed,
        "answers_too_short": short,
        "answers_with_a_row_twice": known,
        "unindexed_rows": approximate.num_unindexed(table),
        "queries": len(seconds),
    } | told(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--half", action="store_true", help="vectors of 16 bits in the table; 32 else, as an index has")
    parser.add_argument("--queries", type=int, default=100, help="of each sort")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--commits", type=int, default=20, help="appended while searching")
    parser.add_argument("--no-map", action="store_true", help="leave out the map, which is made in memory")
    parser.add_argument("--folder", type=Path, help="where to make the table; a folder that is deleted unless told")
    parser.add_argument("--append-to", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="some thousand short vectors")
    parser.add_argument("--out", type=Path, default=Path("bench/results/index.json"))
    options = parser.parse_args()
    if options.quick:
        options.rows, options.width, options.queries, options.rounds, options.commits = 4000, 64, 10, 1, 2
    corpus = Corpus(options.rows, options.width, options.half)
    if options.append_to:
        append(options.append_to, corpus, commits=options.commits)
        return
    folder = Path(tempfile.mkdtemp(prefix="lapis-index-", dir=options.folder))
    try:
        measure(folder, corpus, options, report=Report(options.out))
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, corpus: Corpus, options: argparse.Namespace, *, report: Report) -> None:
    report.add("table", {"rows": corpus.rows, "width": corpus.width, "bits": 16 if corpus.half else 32})
    report.add("machine", {"cores": os.cpu_count(), "waiting_for_them": os.getloadavg()[0]})
    with report.doing("rows written"):
        table = connect(folder / "table").create_table("windows", schema=corpus.schema)
        table.add(pa.RecordBatchReader.from_batches(corpus.schema, corpus.batches()))
        table.create_index("part", config=BTree())
    table_gigabytes = gigabytes(folder)
    near = corpus.vectors(2, count=options.queries)
    queries = {"near": near, "far": far_from(near, seed=2)}
    with report.doing("index built and measured"):
        approximation = approximate.build(table, goal=0.95, queries=options.queries)
    print(approximation)
    report.add("index", vars(approximation))
    report.add("disk", {"table_gigabytes": table_gigabytes, "with_index_gigabytes": gigabytes(folder)})
    truth: dict[str, dict[str, list[list[str]]]] = {}
    for name, where in CONDITIONS.items():
        with report.doing(f"truth, {name}"):
            found = exact(table, np.concatenate(list(queries.values())), depth=DEPTH, where=where)
            paths = paths_of(table, found.rows)
            truth[name] = {"near": paths[: len(near)], "far": paths[len(near) :]}

    def ask_table(where: str | None, *, exactly: bool) -> Callable[[np.ndarray], pa.Table]:
        return lambda vector: approximate.nearest(
            table, vector, depth=DEPTH, columns=COLUMNS, where=where, exactly=exactly
        )

    def compare(way: str, ask: Callable[[str | None], Callable], *, most: int, rounds: int) -> None:
        for name, where in CONDITIONS.items():
            for sort, vectors in queries.items():
                figures = timed(ask(where), vectors[:most], truth=truth[name][sort][:most], rounds=rounds)
                report.add(f"{way}, {name}, {sort}", figures)

    with report.doing("queries of the index"):
        compare("index", lambda where: ask_table(where, exactly=False), most=options.queries, rounds=options.rounds)
    with report.doing("queries compared with all"):
        compare("exact", lambda where: ask_table(where, exactly=True), most=5, rounds=1)
    words = ["--rows", str(corpus.rows), "--width", str(corpus.width), *(["--half"] if corpus.half else [])]
    if not options.no_map:
        with report.doing("map built and measured"):
            mapped = build_map(
                folder / "map", table=table, embedder_identity="bench", columns=COLUMNS, queries=options.queries
            )
        stamp = mapped.stamp
        figures = {"look": stamp.look, "recall_rows": stamp.recall_rows, "recall_far": stamp.recall_far}
        report.add("map", figures | {"gigabytes": gigabytes(folder / "map")})
        with report.doing("queries of the map"):
            compare(
                "map",
                lambda where: lambda vector: mapped.nearest(vector, depth=DEPTH, where=where, table=table),
                most=options.queries,
                rounds=options.rounds,
            )
    report.add("machine, later", {"cores": os.cpu_count(), "waiting_for_them": os.getloadavg()[0]})
    with report.doing("appended while searching") as appended:
        appended.update(while_appending(folder / "table", table, corpus, commits=options.commits, options=words))
    with report.doing("index refreshed"):
        approximate.refresh(table)
    report.add("rows outside the index then", {"rows": approximate.num_unindexed(table)})
    if not options.no_map:
        with report.doing("map refreshed"):
            refresh_map(folder / "map", table=table, queries=options.queries)


if __name__ == "__main__":
    main()
