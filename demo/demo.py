"""The first light, from end to end: train on real sound, measure on held-out sound, index it, and find it by words.

Writes one self-contained page, `report.html`, into the folder given by --out.
"""

import argparse
import base64
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is imported

import jinja2
import numpy as np

from lapis import hub
from lapis import recipe as recipes
from lapis.data.sample import Sample
from lapis.datasets.pocket import Pocket
from lapis.evaluation.suite import POCKET_LANGUAGES, Result, run_suite, table
from lapis.evaluation.zeroshot import ZeroShotResult
from lapis.files import atomic_write
from lapis.search.index import Index

QUERIES = (
    ("eng_Latn", "a bird sings in the forest"),
    ("jpn_Jpan", "火が燃えている"),
    ("por_Latn", "alguém toca piano"),
)
"""The last in a language that no caption of the corpus is written in."""


@dataclass(frozen=True)
class Found:
    """A hit of a search, ready for the page."""

    score: float
    label: str
    source: str
    name: str
    player: str


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    parser.add_argument("--set", nargs="*", default=[], help="fields of the recipe to replace")
    options = parser.parse_args()
    folder: Path = options.out
    began = time.monotonic()
    recipe = recipes.override(recipes.find("pocket"), options.set)
    progress = recipes.run(recipe, folder=folder / "run")
    if progress.step < recipe.training.steps:
        raise SystemExit(f"stopped after {progress.step} steps; run again to go on")
    trained_minutes = (time.monotonic() - began) / 60

    model = hub.load(folder / "run")
    results = run_suite(model, suite="pocket", progress=lambda name: print(f"measuring {name}", flush=True))
    samples = {sample.key: sample for sample in Pocket("test").build()}
    sounds = unpack(list(samples.values()), folder / "sounds")
    index = Index.create_or_open(
        folder / "index",
        embedder_identity=model.identity,
        width=model.width,
        window_seconds=10.0,
        model=str((folder / "run").resolve()),
        rebuild=True,
    )
    report = index.update(sounds, embedder=model)
    print(f"indexed {report.added} files, {len(report.failed)} unreadable", flush=True)
    searches = []
    for language, words in QUERIES:
        hits = index.search_text(words, embedder=model, limit=5)
        found = [
            Found(hit.score, str(s.label), str(s.source), hit.path.name, as_address(hit.path.read_bytes(), "audio/ogg"))
            for hit in hits
            for s in (samples[hit.path.stem],)
        ]
        searches.append({"language": language, "words": words, "found": found})
        print(f"{words!r}: {', '.join(f'{hit.label} {hit.score:.2f}' for hit in found)}", flush=True)

    with atomic_write(folder / "report.html", binary=False) as file:
        file.write(page(results, searches=searches, run=folder / "run", steps=progress.step, minutes=trained_minutes))
    for row in table(results):
        print(f"{row['benchmark']:34}  {row['metric']:20}  {row['measured']:>6}  chance {row['chance']:>6}")
    print(f"\n{folder / 'report.html'} written after {(time.monotonic() - began) / 60:.1f} minutes")


def unpack(samples: list[Sample], folder: Path) -> Path:
    """The clips as files, as a user's folder would hold them."""
    for sample in samples:
        content = sample.audio.open()
        assert isinstance(content, bytes)
        with atomic_write(folder / f"{sample.key}.opus") as file:
            file.write(content)
    return folder


def as_address(content: bytes, kind: str) -> str:
    """Bytes as an address that needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page(results: dict[str, Result], *, searches: list[dict], run: Path, steps: int, minutes: float) -> str:
    """The report as HTML."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    confusions = [
        (name, as_address(confusion_picture(result), "image/png"))
        for name, result in results.items()
        if isinstance(result, ZeroShotResult) and name.endswith(f"{POCKET_LANGUAGES[0]}-1")
    ]
    return environment.get_template("report.html.jinja").render(
        rows=table(results),
        protocols={name: result.protocol for name, result in results.items()},
        curves=as_address((run / "curves.png").read_bytes(), "image/png"),
        confusions=confusions,
        searches=searches,
        steps=steps,
        minutes=minutes,
    )


def confusion_picture(result: ZeroShotResult) -> bytes:
    """Rows are the true classes, columns the answers; each row adds up to one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = 2 + 0.28 * len(result.classes)
    figure = Figure(figsize=(size, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = result.confusion / np.maximum(result.confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    places = range(len(result.classes))
    axes.set_xticks(places, result.classes, rotation=90, fontsize=8)
    axes.set_yticks(places, result.classes, fontsize=8)
    axes.set(xlabel="answered", ylabel="true", title=f"accuracy {result.accuracy:.1%}, chance {result.chance:.1%}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


if __name__ == "__main__":
    try:
        main()
    except ValueError as problem:
        raise SystemExit(f"demo: {problem}") from problem
