"""A recipe is a value: all that a run does, frozen, printed whole at the start and stored with its weights.

Recipes are Python functions in `lapis.recipes`. From the command line a field is replaced by its path, strictly:
`--set model.width=256` fails for a field that does not exist (and names the nearest one) or a value of another type.
"""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import Tensor

from lapis import distributed, saved
from lapis.captioner import Captioner
from lapis.data.batching import Budget
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture
from lapis.data.sources import SourceConfig
from lapis.evaluation.classification import Classification
from lapis.evaluation.embeddings import embed_samples
from lapis.evaluation.retrieval import Retrieval
from lapis.files import atomic_write
from lapis.model import JointModel
from lapis.objectives.caption import Caption
from lapis.objectives.learner import Learner, Objective, ObjectiveConfig
from lapis.train import trackers
from lapis.train.after import After, Towers
from lapis.train.checkpoint import Checkpoints, Progress
from lapis.train.loop import Training, train
from lapis.train.optim import AdamW, Cosine, OptimizerConfig, Schedule
from lapis.train.report import Report
from lapis.values import PACKAGE, check_choice, from_values, nearest, parsed, to_values
from lapis.weights import load_strictly


@dataclass(frozen=True)
class Check:
    """Held-out clips that are measured during training; never test data."""

    name: str
    source: SourceConfig
    protocol: Retrieval | Classification = Retrieval()


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run does and finds."""

    name: str
    model: JointModel.Config
    objectives: tuple[ObjectiveConfig, ...]
    weights: Mapping[str, float]
    """Of the objectives' terms, by their names."""
    data: Mixture.Config
    training: Training
    schedule: Schedule = Cosine(peak=1e-3, warmup_steps=100)
    optimizer: OptimizerConfig = AdamW()
    checks: tuple[Check, ...] = ()
    budget: Budget = Budget()
    reading: Reading = Reading()
    after: After | Towers | None = None
    """The run that this one goes on from, with a recipe of its own, or published towers that it begins with."""
    seed: int = 0
    threads: int | None = None
    """Of the processor, for each process; the order of sums depends on it, so a fixed number repeats a run exactly."""


def names() -> list[str]:
    """The recipes: the modules of `lapis.recipes`."""
    package = importlib.import_module(f"{PACKAGE}.recipes")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def find(name: str, **options: str | int) -> Recipe:
    """The recipe that the function `name` of the module `lapis.recipes.name` returns.

    Args:
        name: of the recipe.
        options: what the function takes: the stage of a recipe in several, its form, the run it goes on with; a number
            may come as its digits.

    Raises:
        ValueError: there is no such recipe, or it has no such option or choice.
    """
    if name not in names():
        raise ValueError(f"no recipe {name!r}{nearest(name, names())}; the recipes are {', '.join(names())}")
    recipe = getattr(importlib.import_module(f"{PACKAGE}.recipes.{name}"), name)
    known = get_type_hints(recipe)
    for option, value in options.items():
        if option not in inspect.signature(recipe).parameters:
            raise ValueError(f"the recipe {name} has no {option}")
        if choices := get_args(known[option]) if get_origin(known[option]) is Literal else ():
            check_choice(value, Literal[choices], name=option)
        if known[option] is int and not str(value).isdecimal():
            raise ValueError(f"{option}: expected a whole number, got {value!r}")
    return recipe(**{option: int(value) if known[option] is int else value for option, value in options.items()})


def run(recipe: Recipe, *, folder: Path, device: str = "cpu", track: str = "") -> Progress:
    """Train, from the newest checkpoint in `folder` if there is one; leaves the model in `folder` at the end.

    Under torchrun all its processes take part, each with its share of the draws and on its own GPU.

    Args:
        recipe: what the run does.
        folder: of the run.
        device: cpu or cuda.
        track: a service that shows the run's numbers (`train.trackers`), wandb or trackio; none unless told.

    Raises:
        ValueError: `folder` holds a run of another recipe (which is left as it is), or a field does not fit others, or
            the service is unknown or not installed.
    """
    import torch

    trackers.check(track)
    with distributed.joined(device) as place:
        # Reading does not change what is learned, so a run may go on with another number of workers; and with another
        # number of processes, as long as all of them together have batches of the same size.
        together = replace(recipe, budget=recipe.budget.of_all(distributed.world_size()))
        checkpoints = Checkpoints(folder, recipe=to_values(together), indifferent=("reading",))
        checkpoints.check()
        known = [name for check in recipe.checks for name in _score_names(check)]
        if (best := recipe.training.keep_best) is not None and best not in known:
            raise ValueError(f"training.keep_best: no score {best!r}{nearest(best, known)}; the scores are {known}")
        if recipe.threads is not None:
            torch.set_num_threads(recipe.threads)
        if recipe.after is not None:
            recipe.after.check()  # before a model of a billion weights is made
        torch.manual_seed(recipe.seed)  # in every process alike: all begin with the same weights
        model = recipe.model.build()
        taken = recipe.after.into(model) if recipe.after else ""
        model = model.to(place)
        objectives = [objective.build(model).to(place) for objective in recipe.objectives]
        taken += _begin_decoder(recipe.after, objectives)
        learner = Learner(model, objectives, recipe.weights)
        mixture = recipe.data.build(seed=recipe.seed)
        for objective in objectives:
            objective.check(sample for source in mixture.sources for sample in source)
        loader = Loader(mixture, budget=recipe.budget, sample_rate=model.sample_rate, reading=recipe.reading)
        if distributed.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(folder / "recipe.json", binary=False) as file:
                file.write(dumps(recipe))
            print(f"{dumps(recipe)}\n{mixture}\n{_sizes(model)}\n{taken}".rstrip(), flush=True)
        return train(
            learner,
            batches=loader.batches,
            optimizer_config=recipe.optimizer,
            schedule=recipe.schedule,
            training=recipe.training,
            checkpoints=checkpoints,
            report=Report(folder, name=recipe.name, steps=recipe.training.steps, track=track, recipe=to_values(recipe)),
            validate=lambda trained: _validate(recipe.checks, model=trained),
            export=partial(_export, recipe, folder=folder, learner=learner),
            seed=recipe.seed,
        )


def _begin_decoder(after: After | Towers | None, objectives: Sequence[Objective]) -> str:
    """What says captions goes on with the decoder of the run before, where everything is taken from it; tells so."""
    captions = [objective for objective in objectives if isinstance(objective, Caption)]
    if not isinstance(after, After) or "" not in after.take or not captions:
        return ""
    path = Path(after.folder) / saved.CAPTIONER_NAME
    _, tensors = saved.decoder(after.folder)
    for objective in captions:
        load_strictly(objective.decoder, tensors, source=str(path))
    return f"\n{len(tensors)} tensors of the decoder of captions from {path}"


def _export(
    recipe: Recipe, model: JointModel, name: str, objectives: Mapping[str, Tensor], *, folder: Path, learner: Learner
) -> None:
    """Save the model, with the scale of its cosines, and its decoder of captions where the recipe has one."""
    model.logits = learner.logits()
    captioner = None
    for number, config in enumerate(recipe.objectives):
        if isinstance(config, Caption.Config):
            start = f"{number}.decoder."
            tensors = {n.removeprefix(start): tensor for n, tensor in objectives.items() if n.startswith(start)}
            captioner = Captioner.from_tensors(model, config=config, tensors=tensors, source="the run")
    source = f"a run of the recipe {recipe.name}" + (f", {name} weights" if name else "")
    saved.save(model, folder / name, captioner=captioner, source=source)


def _sizes(model: JointModel) -> str:
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return "parameters: " + ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def _validate(checks: Sequence[Check], *, model: JointModel) -> dict[str, float]:
    scores: dict[str, float] = {}
    for check in checks:
        samples = check.source.build()
        if isinstance(check.protocol, Classification):
            measured = (check.protocol.run(model, clips=samples).score,)
        else:
            result = check.protocol.run(model, clips=embed_samples(model, samples=samples))
            measured = (result.text_to_audio.recall_at_10, result.audio_to_text.recall_at_10)
        scores |= dict(zip(_score_names(check), measured, strict=True))
    return scores


def _score_names(check: Check) -> tuple[str, ...]:
    if isinstance(check.protocol, Classification):
        return (f"{check.name} {check.protocol.metric}",)
    return f"{check.name} text-to-audio R@10", f"{check.name} audio-to-text R@10"


def override(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with fields replaced, each given as `path.to.field=value`.

    Raises:
        ValueError: a setting has no `=`, a field does not exist, or a value is of another type.
    """
    return reduce(_override, settings, recipe)


def _override(recipe: Recipe, setting: str) -> Recipe:
    path, equals, text = setting.partition("=")
    if not equals:
        raise ValueError(f"expected field=value, got {setting!r}")
    return _set(recipe, path.split("."), text, done=[])


def _set(owner: Any, path: list[str], text: str, *, done: list[str]) -> Any:
    """`owner` with the field at `path` replaced; owners are dataclasses, tuples (by number) and mappings (by name)."""
    name, rest = path[0], path[1:]
    where = ".".join([*done, name])
    if is_dataclass(owner) and not isinstance(owner, type):
        known = [field.name for field in fields(owner)]
        if name not in known:
            raise ValueError(f"no field {where!r}{nearest(name, known)}; the fields are {', '.join(known)}")
        old, kind = getattr(owner, name), get_type_hints(type(owner))[name]
    elif isinstance(owner, tuple):
        if not name.isdecimal() or int(name) >= len(owner):
            raise ValueError(f"expected a number below {len(owner)} in {where!r}, got {name!r}")
        old, kind = owner[int(name)], type(owner[int(name)])
    elif isinstance(owner, Mapping):
        if name not in owner:
            raise ValueError(f"no entry {where!r}{nearest(name, list(owner))}; the entries are {', '.join(owner)}")
        old, kind = owner[name], type(owner[name])
    else:
        raise ValueError(f"{'.'.join(done)!r} is {owner!r}, which has no field {name!r}")
    new = _set(old, rest, text, done=[*done, name]) if rest else _typed(text, kind=kind, old=old, where=where)
    if isinstance(owner, tuple):
        return (*owner[: int(name)], new, *owner[int(name) + 1 :])
    return {**owner, name: new} if isinstance(owner, Mapping) else replace(owner, **{name: new})


def _typed(text: str, *, kind: Any, old: Any, where: str) -> Any:
    """`text` as the type of the field, as JSON or as bare words; parts with fields of their own are set one by one."""
    if is_dataclass(old) and text != "null":
        known = ", ".join(f"{where}.{field.name}" for field in fields(old))
        raise ValueError(f"{where!r} has fields of its own: set one of {known}")
    return parsed(text, kind, name=where)


def dumps(recipe: Recipe) -> str:
    """A recipe as JSON."""
    return json.dumps(to_values(recipe), indent=2)


def loads(text: str) -> Recipe:
    """The recipe of a JSON text.

    Raises:
        ValueError: it is not one.
    """
    recipe = from_values(json.loads(text))
    if not isinstance(recipe, Recipe):
        raise ValueError(f"expected a recipe, got {type(recipe).__name__}")
    return recipe
