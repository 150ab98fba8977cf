"""Any source made into WebDataset shards: by several processes, in bounded memory, resumed after any interruption.

A shard holds so many places of the source in their order, less the clips that cannot be read, so that what is in it
does not depend on the number of processes or on when they were stopped. It is there whole or not at all.
`shards.jsonl` has a line a finished shard, with a digest of what was to be in it: whoever comes back makes the shards
that are missing, damaged, or whose samples have changed. `problems.jsonl` says of every clip that was left out, or is
shorter than its file promised, why.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lapis.data.encoding import Codec
from lapis.data.journal import JOURNAL_NAME, Done, Journal
from lapis.data.listing import Listing, Unreadable
from lapis.data.making import Task, make_shard, plan_digest
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.data.storage import local_path
from lapis.data.workers import spread
from lapis.files import atomic_write, locked
from lapis.values import to_values

FORMAT = 1
JOB_NAME = "prepared.json"
PROBLEMS_NAME = "problems.jsonl"
LOCK_NAME = ".lock"
SHARD_CLIPS = 1000
LISTED_PROBLEMS = 20


@dataclass(frozen=True)
class Prepared:
    """What is in the folder: `clips` in `shards`, `kept` of which were there from before; `left_out` clips are not.

    `warnings` clips are in it, but their files promised more sound. `problems` are where and why, of the first few.
    """

    out: Path
    shards: int
    kept: int
    clips: int
    seconds: float
    num_bytes: int
    left_out: int
    warnings: int
    problems: tuple[tuple[str, str], ...]


def prepare(
    config: SourceConfig,
    *,
    out: Path | str,
    name: str = "",
    codec: Codec | None = None,
    shard_clips: int = SHARD_CLIPS,
    workers: int | None = None,
    retry: bool = False,
    restart: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> Prepared:
    """Write the samples of a source into `NAME-000000.tar` and so on, an index beside each (`writing.py`).

    A sample is `KEY.opus` or `KEY.flac`, and `KEY.json` with all that is known of it and `seconds`, exactly those of
    the sound that was written. The same source and settings give the same bytes.

    Args:
        config: the source.
        out: folder of the shards.
        name: how they begin; the folder's name unless told.
        codec: how sounds are written; Opus at 16 kHz unless told.
        shard_clips: places of the source a shard.
        workers: processes; as many as there are processors unless told.
        retry: make those shards again too in which clips are missing, though nothing has changed.
        restart: throw away what another job has left in the folder.
        progress: called with the number of clips looked at and of all, or None.

    Raises:
        ValueError: the source cannot be opened or lies in the folder, or this is an address or has another job's work.
        OSError: the disk is full, or a process was killed; what is finished is kept.
    """
    out = local_path(out, what="out")
    if shard_clips < 1:
        raise ValueError(f"expected at least one clip a shard, got {shard_clips}")
    codec = codec or Codec()
    workers = (os.cpu_count() or 1) if workers is None else workers
    name = name or out.absolute().name
    if "/" in name or name.startswith("."):
        raise ValueError(f"expected a name for shards without a slash and without a dot before it, got {name!r}")
    job = {
        "format": FORMAT,
        "name": name,
        "source": to_values(config),
        "codec": asdict(codec),
        "writer": codec.writer,
        "shard_clips": shard_clips,
    }
    listing = Listing(config)
    if within := next((path for path in listing.paths() if path.resolve().is_relative_to(out.resolve())), None):
        raise ValueError(f"{within} is of the source, and would be in --out {out}: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK_NAME):
        if restart:
            _clear(out, name=name)
        _begin(out, job=job)
        own = (f".{name}-", f".{JOB_NAME}.", f".{JOURNAL_NAME}.", f".{PROBLEMS_NAME}.")
        for path in out.glob(".*.part"):  # What a process was writing when it was killed.
            if path.name.startswith(own):
                path.unlink()
        with Journal(out, name=name) as journal:
            work = _Work(out, name, codec, journal, shard_clips, retry)
            counted = _Counted(progress, listing.total if progress else None)
            tasks = work.tasks(listing, counted)
            with closing(spread(make_shard, tasks, workers=workers, progress=counted.made)) as finished:
                for done in finished:
                    journal.add(done)
            journal.finish(work.num_shards)
            return _summary(out, job=job, done=journal.done.values(), kept=work.kept)


class _Counted:
    """Clips that were there and clips that are being made, as one number."""

    def __init__(self, progress: Callable[[int, int | None], None] | None, total: int | None) -> None:
        self._progress, self._total, self._kept, self._made = progress, total, 0, 0

    def keep(self, count: int) -> None:
        self._kept += count
        self._tell()

    def made(self, count: int) -> None:
        self._made = count
        self._tell()

    def _tell(self) -> None:
        if self._progress:
            self._progress(self._kept + self._made, self._total)


@dataclass
class _Work:
    """The shards that have to be made, one after another."""

    out: Path
    name: str
    codec: Codec
    journal: Journal
    shard_clips: int
    retry: bool
    num_shards: int = 0
    kept: int = 0

    def tasks(self, places: Iterable[Sample | Unreadable], counted: _Counted) -> Iterator[Task]:
        iterator = iter(places)
        while group := tuple(islice(iterator, self.shard_clips)):
            number, self.num_shards = self.num_shards, self.num_shards + 1
            plan = plan_digest(group)
            if self.journal.holds(number, plan=plan, retry=self.retry):
                self.kept += 1
                counted.keep(len(group))
                continue
            yield Task(number, number * self.shard_clips, group, self.codec, self.out, self.name, plan)


def _begin(out: Path, *, job: dict[str, Any]) -> None:
    """Write down what the job is, or see that it is the one that is there."""
    path = out / JOB_NAME
    if not path.exists():
        if strange := sorted(found.name for found in out.iterdir() if found.name[0] != "."):
            raise ValueError(
                f"{out} holds other files ({strange[0]}): expected an empty folder, or one of this command"
            )
        _write_job(out, job=job)
        return
    there = _read_job(path)
    asked = json.loads(json.dumps(job))
    if differing := [field for field in asked if there.get(field) != asked[field]]:
        field = differing[0]
        raise ValueError(
            f"{out} holds the shards of another job, it differs in {field}: {there.get(field)}, now {asked[field]}. "
            f"Choose another --out, or throw them away with --restart"
        )


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(path.read_text(encoding="utf-8"))["job"]
        if not isinstance(job, dict):
            raise TypeError(f"expected an object, got {type(job).__name__}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): throw the folder's shards away with --restart") from error
    return job


def _write_job(out: Path, *, job: dict[str, Any], **totals: Any) -> None:
    with atomic_write(out / JOB_NAME, binary=False) as file:
        json.dump({"job": job, **totals}, file, indent=2, ensure_ascii=False)


def _clear(out: Path, *, name: str) -> None:
    """Delete what this command has written; a folder without its description is not touched.

    Where the description is damaged, the shards are taken to have the name that they are to have now.
    """
    path = out / JOB_NAME
    if not path.exists():
        return
    with contextlib.suppress(ValueError):
        name = str(_read_job(path).get("name", name))
    (out / JOURNAL_NAME).unlink(missing_ok=True)  # First, since it may be damaged: shards it does not name go too.
    with Journal(out, name=name) as journal:
        journal.finish(0)
    for written in (PROBLEMS_NAME, JOURNAL_NAME, JOB_NAME):
        (out / written).unlink(missing_ok=True)


def _summary(out: Path, *, job: dict[str, Any], done: Iterable[Done], kept: int) -> Prepared:
    """Write the problems and the totals, and give them."""
    totals: Counter[str] = Counter()
    seconds, listed = 0.0, []
    with atomic_write(out / PROBLEMS_NAME, binary=False) as file:
        for shard in done:
            seconds += shard.seconds
            totals.update(shards=int(shard.file is not None), clips=shard.clips, num_bytes=shard.num_bytes)
            for problem in shard.problems:
                totals["left_out" if problem.left_out else "warnings"] += 1
                file.write(json.dumps(asdict(problem), ensure_ascii=False) + "\n")
                listed += [(problem.where, problem.reason)] if len(listed) < LISTED_PROBLEMS else []
    names = ("shards", "clips", "num_bytes", "left_out", "warnings")
    counts = {name: totals[name] for name in names}
    _write_job(out, job=job, **counts, seconds=seconds)
    return Prepared(out, kept=kept, seconds=seconds, problems=tuple(listed), **counts)
