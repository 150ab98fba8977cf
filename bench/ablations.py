"""What each part of a paper's recipe brings, in small: the same steps on the same sounds with one thing changed.

SLAP without self-distillation, without captions, without both, and with global attention only (its Table 5); GLAP with
and without translated captions; M2D-CLAP's first stage with and without the captions' term. Clips are those of the
folder `pool` of $LAPIS_DATA; every figure is of its validation split, which chooses nothing here: all runs take the
same steps, and the last weights are measured. A run that is interrupted goes on where it stopped, and one that is
measured is not repeated, so that the same command finishes the table and writes it again.
"""

import argparse
import contextlib
import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lapis import recipe as recipes
from lapis import saved
from lapis.audio_encoders.slap import Slap
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig, Tars
from lapis.evaluation.embeddings import AudioEmbeddings, embed_samples
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.zeroshot import ZeroShot, ZeroShotResult
from lapis.files import atomic_write
from lapis.model import JointModel
from lapis.objectives.caption import Caption
from lapis.objectives.distill import Distill
from lapis.objectives.duo import Duo
from lapis.recipe import Recipe
from lapis.recipes.glap import glap
from lapis.recipes.m2d_clap import m2d_clap
from lapis.recipes.slap import slap

SMALL = (
    "model.audio.width=128",
    "model.audio.depth=3",
    "model.audio.heads=4",
    "model.audio.hidden=256",
    "budget.clips=48",
    "schedule.peak=1e-3",
    "checks=[]",
    "threads=1",
)
TINY = ("model.audio.width=24", "model.audio.heads=2", "model.audio.hidden=24", "budget.clips=6")
OTHERS = ("deu_Latn", "spa_Latn", "fra_Latn", "nld_Latn", "jpn_Jpan", "zho_Hans")
"""The languages besides English that the pool's captions of sounds and instruments are written in."""
FITTING = Fitting(learning_rate=1e-3, seeds=(42,))
"""Of the linear probe of mean tokens: small towers need a higher rate than the protocol's 3e-5 within 200 epochs."""


def _without(*kinds: type) -> Callable[[Recipe], Recipe]:
    """A recipe without the objectives of these kinds, and without their weights."""
    term = {Distill: "distill", Caption: "caption"}

    left_out, configs = {term[kind] for kind in kinds}, tuple(kind.Config for kind in kinds)

    def changed(recipe: Recipe) -> Recipe:
        weights = {name: weight for name, weight in recipe.weights.items() if name not in left_out}
        return replace(
            recipe, objectives=tuple(one for one in recipe.objectives if not isinstance(one, configs)), weights=weights
        )

    return changed


def _all_global(recipe: Recipe) -> Recipe:
    assert isinstance(recipe.model.audio, Slap.Config)
    return replace(recipe, model=replace(recipe.model, audio=replace(recipe.model.audio, local_layers=0)))


def _no_contrast(recipe: Recipe) -> Recipe:
    """The masked modelling duo alone: no caption is used."""
    objectives = tuple(replace(one, visible=None) if isinstance(one, Duo.Config) else one for one in recipe.objectives)
    return replace(recipe, objectives=objectives, weights={"masked": recipe.weights["masked"]})


@dataclass(frozen=True)
class Variant:
    """A recipe with one thing changed."""

    family: str
    name: str
    begin: Callable[..., Recipe]
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe

    def recipe(self, *, seed: int, steps: int, quick: bool) -> Recipe:
        """The run's recipe; all variants of a family see the same clips in the same order."""
        recipe = recipes.override(self.begin(form="pocket" if quick else "pool"), SMALL)
        recipe = recipes.override(recipe, TINY if quick else ())
        warmup = max(1, steps // 20)
        objectives = tuple(
            replace(one, steps=steps) if isinstance(one, Distill.Config | Duo.Config) else one
            for one in recipe.objectives
        )
        return self.change(
            replace(
                recipe,
                name=f"{self.family}, {self.name}",
                objectives=objectives,
                schedule=replace(recipe.schedule, warmup_steps=warmup),
                training=replace(recipe.training, steps=steps, validate_every=steps, save_every=max(1, steps // 4)),
                seed=seed,
            )
        )


VARIANTS = (
    Variant("slap", "all", slap),
    Variant("slap", "without self-distillation", slap, _without(Distill)),
    Variant("slap", "without captions", slap, _without(Caption)),
    Variant("slap", "without both", slap, _without(Distill, Caption)),
    Variant("slap", "global attention only", slap, _all_global),
    Variant("glap", "translated captions", glap),
    Variant("glap", "English captions only", partial(glap, captions="english")),
    Variant("m2d_clap", "all", m2d_clap),
    Variant("m2d_clap", "without the captions' term", m2d_clap, _no_contrast),
)
LAST_OF_EACH = tuple({variant.family: variant for variant in VARIANTS}.values())
FAMILIES = tuple(variant.family for variant in LAST_OF_EACH)


def take(recipe: Recipe, *, folder: Path, quick: bool) -> dict[str, float]:
    """Train and measure one run, or read what was measured of it before."""
    measured, before = folder / "measured.json", folder / "recipe.json"
    if before.is_file() and before.read_text(encoding="utf-8") != recipes.dumps(recipe):
        raise ValueError(f"{folder} holds a run of another recipe: move it away, or choose another --runs")
    if not saved.is_saved(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (
            (folder / "told.txt").open("a") as told,
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(told),
        ):
            recipes.run(recipe, folder=folder)
    if not measured.is_file():
        with atomic_write(measured, binary=False) as file:
            json.dump(measure(folder, quick=quick), file, indent=2)
    return json.loads(measured.read_text(encoding="utf-8"))


def measure(folder: Path, *, quick: bool) -> dict[str, float]:
    """Scores of a trained model on validation clips, in per cent."""
    model = saved.open(folder)
    corpus = "pocket/pocket" if quick else "pool/*"
    scores: dict[str, float] = {}
    for domain in ("sound", "music", "speech"):
        samples = Tars(f"{corpus}-val-*.tar", domain=domain).build()
        clips = embed_samples(model, samples=samples)
        protocol = Retrieval("caption") if domain == "speech" else Retrieval("label", languages=("eng_Latn",))
        found = protocol.run(model, clips=clips)
        scores[f"{domain}, text to audio mAP@10"] = 100 * found.text_to_audio.mean_average_precision_at_10
        scores[f"{domain}, audio to text mAP@10"] = 100 * found.audio_to_text.mean_average_precision_at_10
        if domain != "speech":
            scores[f"{domain}, zero-shot"] = 100 * zero_shot(model, clips, languages=("eng_Latn",))
            scores[f"{domain}, zero-shot in other languages"] = 100 * zero_shot(model, clips, languages=OTHERS)
            scores[f"{domain}, linear probe"] = 100 * linear_probe(
                model, samples, train=Every(16 if quick else 1, Tars(f"{corpus}-train-*.tar", domain=domain))
            )
    return scores


@dataclass(frozen=True)
class Every:
    """Every so manyth sample of a source."""

    step: int
    source: SourceConfig

    def build(self) -> Sequence[Sample]:
        """These samples."""
        samples = self.source.build()
        return samples if self.step == 1 else samples[:: self.step]


def zero_shot(model: JointModel, clips: AudioEmbeddings, *, languages: Sequence[str]) -> float:
    """Accuracy among the classes, each prompted by its captions in a language; the mean over languages."""
    accuracies = []
    for language in languages:
        rows = [row for row, sample in enumerate(clips.samples) if language in sample.captions]
        if not rows:
            continue
        samples = tuple(clips.samples[row] for row in rows)
        prompts: dict[str, tuple[str, ...]] = {}
        for sample in samples:
            prompts[str(sample.label)] = tuple(
                dict.fromkeys((*prompts.get(str(sample.label), ()), *sample.captions[language]))
            )
        found = ZeroShot(prompts).run(model, clips=AudioEmbeddings(clips.vectors[rows], samples))
        assert isinstance(found, ZeroShotResult)  # a clip has one label
        accuracies.append(found.accuracy)
    return statistics.fmean(accuracies) if accuracies else 0.0


def linear_probe(model: JointModel, samples: Sequence[Sample], *, train: SourceConfig) -> float:
    """Accuracy of a linear layer on mean tokens, over the clips whose class is among the training clips'."""
    known = {sample.label for sample in train.build()}
    clips = [sample for sample in samples if sample.label in known]
    return LinearProbe(train, fitting=FITTING).run(model, clips=clips).score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="two tiny steps of one variant a family on the pocket corpus"
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="runs at once, a thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, default=Path("bench/results/ablations.json"))
    options = parser.parse_args()
    if options.quick:
        options.steps, options.seeds, options.runs = 2, 1, options.out.parent / "runs"
    jobs = [
        (variant, seed)
        for seed in range(options.seeds)  # outermost, so that a table of one seed is whole early
        for variant in (LAST_OF_EACH if options.quick else VARIANTS)
        if variant.family in options.families
    ]
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lapis.recipe"])  # imported once, not for every run
    with ProcessPoolExecutor(options.workers, mp_context=context, max_tasks_per_child=1) as pool:
        running = {}
        for variant, seed in jobs:
            folder = options.runs / f"{variant.family}-{options.steps}" / variant.name / f"seed-{seed}"
            recipe = variant.recipe(seed=seed, steps=options.steps, quick=options.quick)
            job = pool.submit(take, recipe, folder=folder, quick=options.quick)
            running[job] = variant, seed
        for done, job in enumerate(as_completed(running), start=1):
            variant, seed = running[job]
            found.setdefault((variant.family, variant.name), {})[seed] = job.result()
            print(f"{done} of {len(jobs)}: {variant.family}, {variant.name}, seed {seed}", file=sys.stderr, flush=True)
    tables = [table(family, found) for family in options.families]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.out, binary=False) as file:
        json.dump({"steps": options.steps, "tables": tables}, file, indent=2)


def table(family: str, found: Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]]) -> dict[str, object]:
    """Print mean and standard deviation over seeds, a line a score and a column a variant."""
    variants = [one.name for one in VARIANTS if one.family == family and (family, one.name) in found]
    scores = list(found[family, variants[0]][0])
    rows = {}
    print(f"\n| {family}, {len(found[family, variants[0]])} seeds | {' | '.join(variants)} |")
    print("|---|" + "---|" * len(variants))
    for score in scores:
        of = {name: [run[score] for _, run in sorted(found[family, name].items())] for name in variants}
        rows[score] = of
        cells = [f"{statistics.fmean(values):.1f} ± {_spread(values):.1f}" for values in of.values()]
        print(f"| {score} | {' | '.join(cells)} |")
    return {"family": family, "scores": rows}


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
