"""The command `lapis`. Each command imports what it needs when it runs, so that `lapis --help` answers at once."""

import io
import json
import os
import sys
import tempfile
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from lapis import (
    __version__,
    cli_calibrate,
    cli_caption,
    cli_classify,
    cli_data,
    cli_export,
    cli_import,
    cli_index,
    cli_locate,
    cli_report,
    cli_serve,
    cli_watch,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lapis.captioner import Captioner
    from lapis.doctor import Finding
    from lapis.evaluation.suite import SuiteResults
    from lapis.model import Embedder
    from lapis.search.bulk import EmbedReport

app = App(
    name="lapis",
    help="Train audio-text models, measure them, and find sounds by words.",
    version=__version__,
    help_flags=["--help", "-h"],
    suppress_keyboard_interrupt=False,  # `main` says so
)
app.command(cli_report.report)
app.command(cli_report.compare)
app.command(cli_calibrate.calibrate)
app.command(cli_caption.caption)
app.command(cli_classify.classify)
app.command(cli_export.export)
cli_index.app.command(cli_import.import_, name="import")
app.command(cli_index.app)
app.command(cli_index.search)
app.command(cli_locate.locate)
app.command(cli_serve.serve)
app.command(cli_watch.watch)


app.command(cli_data.app)


@app.command
def train(
    name: str = "",
    /,
    *,
    stage: str = "",
    form: str = "",
    after: str = "",
    choose: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    set: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    out: Path | None = None,
    resume: bool = False,
    device: str = "",
    track: str = "",
    list: Annotated[bool, Parameter(negative=())] = False,
    print: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Train a recipe.

    Parameters
    ----------
    name
        The recipe, one of those that --list shows.
    stage
        Which stage, of a recipe in several.
    form
        Its size: paper, or pool or pocket for two cores, of a recipe that has them.
    after
        Folder of the run whose model this one goes on with.
    choose
        Further choices that the recipe has (docs/recipes), as name=value: departures=as_released.
    set
        Fields to replace, as path.to.field=value.
    out
        Folder of the run; runs/NAME unless told.
    resume
        Go on from the newest checkpoint in the folder.
    device
        cpu or cuda; the GPU where there is one unless told.
    track
        Show the numbers in wandb or trackio too; WANDB_MODE=offline keeps wandb's on this machine.
    list
        Show the recipes and stop.
    print
        Show the whole recipe and stop.
    """
    from lapis import recipe as recipes

    if list:
        sys.stdout.write("\n".join(recipes.names()) + "\n")
        return
    if not name:
        raise ValueError(f"expected a recipe: one of {', '.join(recipes.names())}")
    given = {"stage": stage, "form": form, "after": after}
    options = {option: value for option, value in given.items() if value} | _pairs(choose, option="choose")
    recipe = recipes.override(recipes.find(name, **options), set)
    if print:
        sys.stdout.write(recipes.dumps(recipe) + "\n")
        return
    folder = out or Path("runs") / name
    if not resume and any(folder.glob("checkpoint-*.pt")):
        raise ValueError(f"{folder} already holds a run: add --resume to go on with it, or choose another --out")
    recipes.run(recipe, folder=folder, device=_device(device), track=track)


@app.command
def evaluate(
    model: str = "",
    /,
    *,
    suite: str = "pocket",
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    out: Path | None = None,
    cache: bool = True,
    list: Annotated[bool, Parameter(negative=())] = False,
    device: str = "",
) -> None:
    """Measure a model on a suite of benchmarks, chance beside every figure, protocols and prompts below them.

    Parameters
    ----------
    model
        A folder, a file of official weights, or a name of either, as `lapis.load` takes it.
    suite
        Which benchmarks: pocket, pocket-linear, pool, papers or papers-finetuning.
    only
        Some benchmarks of the suite: names, or patterns such as `*-retrieval-*`.
    out
        JSON file for the whole results: figures, protocols, prompts, single clips; written anew after each benchmark.
    cache
        Keep embeddings for the next run, and use those of earlier ones.
    list
        Show the benchmarks of the suite and stop.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    from rich.console import Console

    from lapis.evaluation.cache import EmbeddingCache
    from lapis.evaluation.results_file import write
    from lapis.evaluation.suite import SUITES, run_suite
    from lapis.files import cache_folder
    from lapis.hub import find, load
    from lapis.values import nearest

    if suite not in SUITES:
        raise ValueError(f"no suite {suite!r}{nearest(suite, tuple(SUITES))}; the suites are {', '.join(SUITES)}")
    if list:
        sys.stdout.write("".join(f"{benchmark.name}\n" for benchmark in SUITES[suite]))
        return
    if not model:
        raise ValueError("expected a model: a folder, a file of official weights, or a name")
    if out:
        _check_writable(out)
    path = find(model).path
    embedder = load(path, device=_device(device))
    console = Console(stderr=True)

    def keep(results: "SuiteResults") -> None:
        if out:  # once more at the end, as what was absent after the last benchmark is told too
            write(results.to_run(model=model, device=_device(device)), out)

    results = run_suite(
        embedder,
        suite=suite,
        progress=console.print if console.is_terminal else None,
        cache=EmbeddingCache(cache_folder("embeddings") if cache else None),
        trained=_languages_given(path),
        only=only,
        captioner=_captioner(path, embedder),
        keep=keep,
    )
    keep(results)
    _print_results(results, title=f"{model} on {suite}")


def _check_writable(path: Path) -> None:
    """See that a file can be written before hours of work are done for it."""
    if path.is_dir():
        raise ValueError(f"expected a file for --out, and {path} is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written: {error}") from error


def _captioner(path: Path, embedder: "Embedder") -> "Captioner | None":
    """What writes captions with a model, where it lies beside its weights."""
    from lapis import saved
    from lapis.model import JointModel

    if not (path.is_dir() and saved.is_saved(path) and saved.describe(path).captioner is not None):
        return None
    assert isinstance(embedder, JointModel)
    return saved.captioner(path, model=embedder)


def _languages_given(path: Path) -> "frozenset[str] | None":
    """Of the texts that the run in a folder was trained on, and the runs it went on from; None where not known."""
    from lapis import recipe as recipes
    from lapis.evaluation.given import languages_given

    told = path / "recipe.json"
    if not told.is_file():
        return None
    try:
        recipe = recipes.loads(told.read_text(encoding="utf-8"))
        before = getattr(recipe.after, "folder", None)
        earlier = frozenset() if recipe.after is None else _languages_given(Path(before)) if before else None
        found = languages_given(recipe.data)
    except (ValueError, OSError) as error:
        warnings.warn(f"which languages the model was trained on is not known: {error}", stacklevel=2)
        return None
    return None if earlier is None else found | earlier


def _print_results(results: "SuiteResults", *, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from lapis.evaluation.prompts import shown
    from lapis.evaluation.suite import table

    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file has no width of its own
    rows = table(results)
    never = [row for row in rows if row["languages"] == "never given"]
    for heading, part in (
        (title, [row for row in rows if row not in never]),
        (f"{title}: languages never given to training", never),
    ):
        if part:
            drawn = Table(title=heading)
            for column in ("benchmark", "metric", "measured", "95 % interval", "chance"):
                drawn.add_column(column, overflow="fold")
            before = ""
            for row in part:
                name = f"{row['benchmark']} (incomplete)" if row["incomplete"] else row["benchmark"]
                drawn.add_row(
                    "" if row["benchmark"] == before else name,
                    *(row[column] for column in ("metric", "measured", "interval", "chance")),
                )
                before = row["benchmark"]
            console.print(drawn)
    if results.trained is None:
        print("Which languages training was given is not known.")
    for name, result in results.items():
        print(f"{name}: {result.protocol} {getattr(result, 'chosen', '')}".rstrip())
        asked = getattr(result, "prompts", None) or {}
        by_language = asked if all(hasattr(of, "items") for of in asked.values()) else {"": asked}
        for language, prompts in by_language.items():
            if prompts:
                print(f"  prompts{f' in {language}' if language else ''}: {shown(prompts)}")
        if name in results.incomplete:
            print(f"  incomplete: {results.incomplete[name]}")
    for name, reason in results.absent.items():
        print(f"not measured: {name}: {reason}")


@app.command
def embed(
    sources: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    /,
    *,
    model: str = "",
    out: Path,
    shard: str = "",
    merge: Annotated[bool, Parameter(negative=())] = False,
    check: Annotated[bool, Parameter(negative=())] = False,
    audio_column: str = "audio",
    max_seconds: float = 3600.0,
    batch_seconds: float = 120.0,
    part_clips: int | None = None,
    threads: int | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    restart: Annotated[bool, Parameter(negative=())] = False,
    device: str = "",
    dtype: str = "",
    engine: Literal["process", "ray"] = "process",
    workers: int | None = None,
    gpus_per_worker: int = 0,
    address: str = "local",
) -> None:
    """Write a vector of each sound into a Parquet table; stopped and run again, it goes on where it was.

    Parameters
    ----------
    sources
        Sound files, folders of sounds, tables with a column of paths (.csv, .tsv, .jsonl, .parquet), listings with a
        path a line (.txt), .tar shards, and addresses: s3://bucket/folder/.
    model
        A folder, a file of official weights, or a name of either, as `lapis.load` takes it.
    out
        The table, NAME.parquet; what is finished lies in NAME.parquet.parts until all is.
    shard
        Embed only the k-th of n shards, from 0, into NAME.parquet.shards: 0/8, auto (as torchrun or srun tells), or
        auto/8 (an indexed job of Kubernetes).
    merge
        Make one table of all shards, if they are whole; no sources and no model are needed.
    check
        Say whether all shards are whole, and stop; the exit status is 1 if they are not.
    audio_column
        Of tables, with the paths of the sounds.
    max_seconds
        A longer sound is not embedded; its row says so.
    batch_seconds
        Of sound the model gets at once.
    part_clips
        Written together, what `kill -9` may cost; 1000 unless told. With Ray what a worker gets at a time; 256.
    threads
        That read sound ahead of the model; one a processor, eight at most, unless told.
    overwrite
        Replace the table if it is there.
    restart
        Throw away the unfinished work of an earlier run; of a shard, the finished too.
    device
        cpu or cuda; the GPU where there is one unless told. Shards on one machine share its GPUs.
    dtype
        Of the model's weights: float32, bfloat16 or float16; as they are in its file unless told.
    engine
        process: this one. ray: the machines of a Ray cluster; the options that follow are its own.
    workers
        How many; one a processor of the cluster, or a GPU, unless told.
    gpus_per_worker
        0 or 1.
    address
        local, for a cluster of this machine's own; auto, for one that runs here; or ray://head:10001.
    """
    from rich.console import Console
    from rich.progress import Progress

    from lapis.hub import load
    from lapis.search.bulk import PART_CLIPS, check_out, embed_files
    from lapis.search.ending import exit_on_terminate
    from lapis.search.sharding import local_number, parse_shard

    if merge or check:
        given = [f"--{name}" for name, value in {"shard": shard, "model": model}.items() if value] + [*sources]
        if given or (merge and check):
            raise ValueError(f"--merge and --check take only --out, got {' '.join(given) or 'both'}")
        _finish_embedding(out, merge=merge, overwrite=overwrite)
        return
    if not (sources and model):
        raise ValueError("expected sources and --model (or --merge, or --check, of shards)")
    check_out(out, sources=sources, overwrite=overwrite)
    options: dict[str, Any] = {
        "out": out,
        "model": model,
        "audio_column": audio_column,
        "max_seconds": max_seconds,
        "batch_seconds": batch_seconds,
        "overwrite": overwrite,
        "restart": restart,
    }
    console = Console(stderr=True)
    with exit_on_terminate(), Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("embedding", total=None)
        options["progress"] = lambda done, total: bar.update(task, completed=done, total=total)
        if engine == "ray":
            from lapis.search.ray_engine import LEASE_CLIPS, embed_with_ray

            if shard:
                raise ValueError("--shard and --engine ray are two ways to share the work: choose one")
            make = partial(load, model, device=device or ("cuda" if gpus_per_worker else "cpu"), dtype=dtype or None)
            report = embed_with_ray(
                sources,
                make=make,
                workers=workers,
                gpus_per_worker=gpus_per_worker,
                address=address,
                lease_clips=LEASE_CLIPS if part_clips is None else part_clips,
                threads=2 if threads is None else threads,
                **options,
            )
        else:
            if (workers, gpus_per_worker, address) != (None, 0, "local"):
                raise ValueError("--workers, --gpus-per-worker and --address are options of --engine ray")
            part = parse_shard(shard, environment=os.environ) if shard else None
            on = _device(device, number=local_number(os.environ) if part else 0)
            report = embed_files(
                sources,
                embedder=load(model, device=on, dtype=dtype or None),
                part_clips=PART_CLIPS if part_clips is None else part_clips,
                threads=threads,
                shard=part,
                **options,
            )
    _print_embedded(report)


def _finish_embedding(out: Path, *, merge: bool, overwrite: bool) -> None:
    """Check the shards of a table, and merge them or say what they lack."""
    from lapis.search import fragments

    found = fragments.merge(out, overwrite=overwrite) if merge else fragments.check(out)
    _print_failures(found.failures, failed=found.num_failed)
    for problem in found.problems:
        print(problem)
    print(
        f"{found.num_whole} of {found.shards} shards are whole; {found.num_rows} of {found.num_listed or '?'} clips "
        f"have their row, {found.num_failed} of these no vector; {found.audio_seconds / 3600:.2f} hours of sound"
        + (f"; merged into {out}" if merge else "")
    )
    if not found.is_whole:
        sys.exit(1)


def _print_failures(failures: "tuple[tuple[str, str], ...]", *, failed: int) -> None:
    for path, reason in failures:
        print(f"without a vector: {reason}" if path in reason else f"without a vector: {path}: {reason}")
    if failed > len(failures):
        print(f"without a vector: {failed - len(failures)} more, see the column `error`")


def _print_embedded(report: "EmbedReport") -> None:
    _print_failures(report.failures, failed=report.failed)
    print(
        f"{report.written} clips in {report.out}, {report.failed} of them without a vector; "
        f"{report.audio_seconds / 3600:.2f} hours of sound; {report.resumed} clips were there from an earlier run"
    )


@app.command
def doctor(
    model: str,
    /,
    *,
    full: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    device: str = "",
) -> None:
    """Find out whether a model is well: its weights, and its answers to a few built-in sounds and sentences.

    One line a check. The exit status is 1 if a check failed.

    Parameters
    ----------
    model
        A folder, a file of official weights, or a name of either, as `lapis.load` takes it.
    full
        Try half precision too, with a second copy of the model in memory.
    json
        Print JSON lines, with the figures.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    from rich.console import Console

    from lapis import saved
    from lapis.doctor import examine
    from lapis.hub import find, load

    console = Console(stderr=True)
    with console.status("loading") as status:
        path = find(model).path
        embedder = load(path, device=_device(device), check=False)
        findings = examine(embedder, golden=saved.golden(path), full=full, progress=status.update)
    _print_findings(findings, as_json=json)
    if any(finding.level == "failure" for finding in findings):
        sys.exit(1)


def _print_findings(findings: "tuple[Finding, ...]", *, as_json: bool) -> None:
    if as_json:
        for finding in findings:
            print(json.dumps(asdict(finding), ensure_ascii=False))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    colours = {"fine": "green", "warning": "yellow", "failure": "bold red"}
    for finding in findings:
        level = (f"{finding.level:8}", colours[finding.level])
        console.print(Text.assemble(level, f"{finding.check:16}{finding.sentence}"))


@app.command
def convert(
    source: str,
    /,
    *,
    out: Path,
    dtype: str = "",
    revision: str = "",
    option: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
) -> None:
    """Turn official weights into a slim folder that opens anywhere without a network.

    Parameters
    ----------
    source
        A name of published weights, a file or folder of them, or a repository of the Hugging Face hub.
    out
        Folder to make.
    dtype
        float32, bfloat16 or float16; as in the file unless told.
    revision
        Of the hub's repository.
    option
        Choices of the model's family, as name=value.
    """
    from lapis import hub

    options = {
        name: int(value) if value.isdecimal() else value for name, value in _pairs(option, option="option").items()
    }
    done = hub.convert(source, out, dtype=dtype or None, revision=revision or None, **options)
    print(f"{done.path} ({_size(done.bytes_before)}) -> {out} ({_size(done.bytes_after)})")
    print(f"licence of the weights: {done.licence or 'not known; see where they come from'}")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _pairs(settings: tuple[str, ...], *, option: str) -> dict[str, str]:
    """What stands before and after the `=` of each setting."""
    for setting in settings:
        if "=" not in setting:
            raise ValueError(f"expected --{option} name=value, got {setting!r}")
    return dict(setting.split("=", 1) for setting in settings)


def _device(name: str, *, number: int = 0) -> str:
    """The device of this name, or the best there is; of several GPUs, that of the process of this number."""
    import torch

    if not name:
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return f"cuda:{number % gpus}" if gpus > 1 else "cuda" if gpus else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"no CUDA device is there for --device {name}")
    return name


def _show_warning(message: Warning | str, *place: object) -> None:
    """A warning as a sentence for the user, without its place in the code."""
    sys.stderr.write(f"lapis: {message}\n")


def main(words: "Iterable[str] | None" = None) -> None:
    """Run the command line, or these words; what a user can mend is a sentence on standard error and exit status 2."""
    # Threads that wait for each other must not hold the processor meanwhile: where something else runs beside two
    # training threads on two cores, a step takes ten times as long otherwise. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = _show_warning
    # A file name need not be UTF-8: what is told of one shows its byte.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(words)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"lapis: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("lapis: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
