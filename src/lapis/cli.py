"""The command `lapis`. Each command imports what it needs when it runs, so that `lapis --help` answers at once."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from lapis import __version__

if TYPE_CHECKING:
    from lapis.search.index import Hit, IndexReport

DEFAULT_INDEX = Path("lapis-index")

app = App(
    name="lapis",
    help="Train audio-text models, measure them, and find sounds by words.",
    version=__version__,
    help_flags=["--help", "-h"],
)


@app.command
def train(
    name: str = "",
    /,
    *,
    set: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    out: Path | None = None,
    resume: bool = False,
    device: str = "",
    list: Annotated[bool, Parameter(negative=())] = False,
    print: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Train a recipe.

    Parameters
    ----------
    name
        The recipe, one of those that --list shows.
    set
        Fields to replace, as path.to.field=value.
    out
        Folder of the run; runs/NAME unless told.
    resume
        Go on from the newest checkpoint in the folder.
    device
        cpu or cuda; the GPU where there is one unless told.
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
    recipe = recipes.override(recipes.find(name), set)
    if print:
        sys.stdout.write(recipes.dumps(recipe) + "\n")
        return
    folder = out or Path("runs") / name
    if not resume and any(folder.glob("checkpoint-*.pt")):
        raise ValueError(f"{folder} already holds a run: add --resume to go on with it, or choose another --out")
    recipes.run(recipe, folder=folder, device=_device(device))


@app.command
def evaluate(model: str, /, *, suite: str = "pocket", out: Path | None = None, device: str = "") -> None:
    """Measure a model on a suite of benchmarks, chance beside every figure.

    Parameters
    ----------
    model
        Folder of a trained model.
    suite
        Which benchmarks.
    out
        JSON file for the whole results: protocols, prompts, confusions.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    from rich.console import Console
    from rich.table import Table

    from lapis.evaluation.suite import run_suite, table
    from lapis.files import atomic_write
    from lapis.hub import load

    embedder = load(model, device=_device(device))
    console = Console(stderr=True)
    results = run_suite(embedder, suite=suite, progress=console.print if console.is_terminal else None)
    shown = Table("benchmark", "metric", "measured", "chance", title=f"{model} on {suite}")
    for row in table(results):
        shown.add_row(*row.values())
    Console().print(shown)
    if out:
        whole = {"model": embedder.identity, "results": {name: result.to_dict() for name, result in results.items()}}
        with atomic_write(out, binary=False) as file:
            json.dump(whole, file, indent=2, ensure_ascii=False)


@app.command
def index(
    folder: Path,
    /,
    *,
    model: str,
    index: Path = DEFAULT_INDEX,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    rebuild: bool = False,
    device: str = "",
) -> None:
    """Index the sounds of a folder; run again, it reads only what is new or changed.

    Parameters
    ----------
    folder
        With the sounds, and its subfolders.
    model
        Folder of a trained model.
    index
        Where the index lies or is to lie.
    window_seconds
        Of sound a row of the index; 10 for a new index.
    hop_seconds
        From one window's start to the next; the window for a new index.
    rebuild
        Throw away what is in the index and begin anew.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    from rich.console import Console
    from rich.progress import Progress

    from lapis.hub import load
    from lapis.search.index import Index

    if not folder.is_dir():
        raise ValueError(f"expected a folder of sounds, and {folder} is not one")
    embedder = load(model, device=_device(device))
    table = Index.create_or_open(
        index,
        embedder_identity=embedder.identity,
        model=str(Path(model).resolve()),
        width=embedder.width,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        rebuild=rebuild,
    )
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("indexing", total=None)
        report = table.update(
            folder,
            embedder=embedder,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_report(report)


def _print_report(report: "IndexReport") -> None:
    print(
        f"{report.added} files added, {report.changed} changed, {report.unchanged} unchanged, "
        f"{report.removed} removed, {len(report.failed)} unreadable; {report.windows} windows written"
    )
    for path, reason in report.failed:
        print(f"unreadable: {reason}" if str(path) in reason else f"unreadable: {path}: {reason}")


@app.command
def search(
    words: str = "",
    /,
    *,
    like: Path | None = None,
    index: Path = DEFAULT_INDEX,
    model: str = "",
    limit: int = 10,
    json: Annotated[bool, Parameter(negative=())] = False,
    device: str = "",
) -> None:
    """Find sounds by words in any language the model knows, or by a sound.

    Parameters
    ----------
    words
        What the sound is like.
    like
        A sound file to search by, in place of words.
    index
        Made by `lapis index`.
    model
        The model's folder, where it has moved since the index was made.
    limit
        How many files to show.
    json
        Print JSON lines in place of a table.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    from lapis.hub import load
    from lapis.search.index import Index

    if bool(words.strip()) == (like is not None):
        raise ValueError("expected words to search for, or --like with a sound file, one of the two")
    table = Index.open(index)
    embedder = load(model or table.metadata.model, device=_device(device))
    if like is not None:
        hits = table.search_like(like, embedder=embedder, limit=limit)
    else:
        hits = table.search_text(words, embedder=embedder, limit=limit)
    _print_hits(hits, title=words or f"like {like}", as_json=json)


def _print_hits(hits: "list[Hit]", *, title: str, as_json: bool) -> None:
    if as_json:
        for hit in hits:
            print(json.dumps(asdict(hit) | {"path": str(hit.path)}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table("score", "seconds", "file", title=Text(title))
    for hit in hits:
        shown.add_row(f"{hit.score:.3f}", f"{hit.start_seconds:.1f}-{hit.end_seconds:.1f}", Text(str(hit.path)))
    Console().print(shown)


def _device(name: str) -> str:
    """The device of this name, or the best there is."""
    import torch

    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(name).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"no CUDA device is there for --device {name}")
    return name


def main() -> None:
    """Run the command line; what a user can mend is one sentence on standard error and exit status 2."""
    # Threads that wait for each other must not hold the processor meanwhile: where something else runs beside two
    # training threads on two cores, a step takes ten times as long otherwise. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except (ValueError, OSError) as error:
        sys.stderr.write(f"lapis: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("lapis: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
