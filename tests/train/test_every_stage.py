"""Every stage of every recipe trains in two processes whose copies stay equal to the bit.

Stages are found by the options of the recipes' functions; each is run as `lapis train` runs it, in its form for the
pocket corpus with its networks made tiny. SLAP, which has most that moves without a gradient, also goes on after
`kill -9`, and in another number of processes.
"""

import functools
import importlib
import inspect
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

import processes
from lapis import distributed, saved
from lapis import recipe as recipes
from lapis.captioner import Captioner
from lapis.datasets.pocket import Pocket
from lapis.objectives.caption import Caption
from lapis.recipe import Recipe
from lapis.text_encoders import sentence
from lapis.train import report
from lapis.train.report import read_log
from lapis.weights import digest

TINY = {"width": 24, "depth": 3, "heads": 2, "hidden": 24, "prototypes": 16, "bottleneck": 8}


@dataclass(frozen=True)
class Stage:
    """A recipe with one choice of its options."""

    name: str
    options: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return " ".join([self.name, *(value for _, value in self.options)])

    def recipe(self, after: str = "the stage before") -> Recipe:
        """The recipe, tiny; one that goes on with something goes on with `after`."""
        function = _function(self.name)
        given = dict(self.options)
        if "form" in inspect.signature(function).parameters:
            given["form"] = "pocket"
        try:
            recipe = function(**given)
        except ValueError as error:
            if "after" not in str(error):
                raise
            recipe = function(**given, after=after)
        recipe = replace(
            recipe,
            model=replace(recipe.model, audio=_tiny(recipe.model.audio)),
            objectives=tuple(_tiny(objective) for objective in recipe.objectives),
            checks=(),
            threads=1,
            budget=replace(recipe.budget, clips=4, clip_seconds=1.0),
            reading=replace(recipe.reading, workers=0),
            training=replace(recipe.training, save_every=10**6, validate_every=10**6, keep_best=None),
        )
        audio = recipe.model.audio
        if recipe.model.audio_projection is None and audio.width != recipe.model.width:
            recipe = replace(recipe, model=replace(recipe.model, width=audio.width))
        return recipe


def _function(name: str) -> Any:
    return getattr(importlib.import_module(f"lapis.recipes.{name}"), name)


def _tiny(part: Any) -> Any:
    """A part and all parts in it with small networks."""
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changes = {}
    for field in fields(part):
        value = getattr(part, field.name)
        small = isinstance(value, int) and TINY.get(field.name, value) < value
        changes[field.name] = TINY[field.name] if small else _tiny(value)
    return replace(part, **changes)


def _stages() -> Iterator[Stage]:
    """Every choice of options of every recipe that makes a run of its own; a choice may be none."""
    for name in recipes.names():
        hints = get_type_hints(_function(name))
        choices = {
            option: get_args(hints[option])
            for option in inspect.signature(_function(name)).parameters
            if get_origin(hints[option]) is Literal and option != "form"
        }
        seen = set()
        for values in itertools.product(*choices.values()):
            stage = Stage(name, tuple(zip(choices, values, strict=True)))
            text = recipes.dumps(stage.recipe())
            if text not in seen:
                seen.add(text)
                yield stage


@contextmanager
def _quick() -> Iterator[None]:
    """Without what takes time and moves no weight: every corpus is listed once, nothing is drawn at the end."""
    listed, drawn, loaded = Pocket.build, report.draw_curves, sentence._load
    once = functools.cache(listed)
    Pocket.build = lambda source: list(once(source))
    report.draw_curves, sentence._load = lambda *_, **__: None, functools.cache(loaded)
    try:
        yield
    finally:
        Pocket.build, report.draw_curves, sentence._load = listed, drawn, loaded


def _learner(recipe: Recipe, folder: Path) -> Any:
    """Run a recipe and give back what it trained, which `recipes.run` itself keeps in each process."""
    kept, train = [], recipes.train
    recipes.train = lambda learner, **rest: (kept.append(learner), train(learner, **rest))[1]
    try:
        recipes.run(recipe, folder=folder)
    finally:
        recipes.train = train
    return kept[0]


def _losses(folder: Path) -> list[tuple[int, dict[str, float], int]]:
    lines = [line for line in read_log(folder / "log.jsonl") if "losses" in line]
    return [(line["step"], line["losses"], line["clips"]) for line in lines]


def _run(stage: Stage, folder: Path, steps: int) -> dict[str, Any]:
    """What a process has after so many steps."""
    began = time.perf_counter()
    recipe = stage.recipe(str(folder / "before"))
    if recipe.after is not None and distributed.rank() == 0:
        model = recipe.model.build()
        config = next((part for part in recipe.objectives if isinstance(part, Caption.Config)), None)
        captioner = config and Captioner(model, config=config, decoder=config.build_decoder(model))
        saved.save(model, folder / "before", captioner=captioner)
    distributed.barrier()
    learner = _learner(_for(recipe, steps=steps), folder)
    return {
        "digest": digest(learner.state_dict()),
        "losses": _losses(folder),
        "trained": sum(p.numel() for p in learner.parameters() if p.requires_grad),
        "seconds": time.perf_counter() - began,
    }


def _for(recipe: Recipe, **changes: Any) -> Recipe:
    return replace(recipe, training=replace(recipe.training, **changes))


def _stages_of_two(stages: list[Stage], folder: Path, steps: int) -> dict[str, dict[str, Any]]:
    """All stages in this process, one after another: starting a process takes longer than a few steps."""
    with _quick():
        return {str(stage): _run(stage, folder / str(stage), steps) for stage in stages}


def _assert_equal_copies(answers: list[dict[str, dict[str, Any]]], steps: int) -> None:
    first, second = answers
    assert first.keys() == second.keys()
    for name, found in first.items():
        print(f"{name}: {found['trained']:,} parameters, {steps} steps, {found['seconds']:.1f} s, {found['digest']}")
        assert found["digest"] == second[name]["digest"], f"{name}: the copies differ after {steps} steps"
        totals = [sum(losses.values()) for _, losses, _ in found["losses"]]
        assert [step for step, _, _ in found["losses"]] == list(range(1, steps + 1)), name
        assert np.isfinite(totals).all() and len(set(totals)) > 1, name


@pytest.fixture(scope="module")
def stages():
    with _quick():
        return list(_stages())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stages")


def test_the_options_are_walked(stages):
    assert {stage.name for stage in stages} == set(recipes.names())
    of_slap = {dict(stage.options)["stage"] for stage in stages if stage.name == "slap"}
    assert of_slap == {"pretraining", "wavcaps", "retrieval", "captioning"}
    assert {dict(stage.options)["stage"] for stage in stages if stage.name == "m2d_clap"} >= {"1", "2", "2.1"}


@pytest.mark.slow
def test_copies_of_every_stage_are_equal_to_the_bit_after_fifty_steps(stages, tmp_path):
    _assert_equal_copies(processes.run(_stages_of_two, stages, tmp_path, 50, seconds=3000), 50)


def _slap(clips: int, **training: Any) -> Recipe:
    """Tiny, with the same sound in any number of processes: SpecAugment draws in each process by itself."""
    recipe = Stage("slap", ()).recipe()
    model = replace(recipe.model, audio=replace(recipe.model.audio, augment=None))
    recipe = replace(recipe, model=model, budget=replace(recipe.budget, clips=clips, seconds=30.0 * clips))
    return _for(recipe, **{"steps": 6, "save_every": 3} | training)


def _all_of_two(stages: list[Stage], folder: Path) -> dict[str, dict[str, Any]]:
    """All that two processes do here."""
    with _quick():
        recipes.run(_slap(3), folder=folder / "two")
        recipes.run(_slap(3, sharded=True), folder=folder / "sharded")
        recipes.run(_slap(3), folder=folder / "after one")
    return _stages_of_two(stages, folder, 3)


def _without_the_end(run: Path, copy: Path) -> None:
    """The run as it was when it was killed after its first checkpoint."""
    shutil.copytree(run, copy)
    (copy / "checkpoint-00000006.pt").unlink()
    (copy / "model.safetensors").unlink()


@pytest.fixture(scope="module")
def alone(folder):
    """SLAP in one process."""
    with _quick():
        recipes.run(_slap(6), folder=folder / "one")
    return folder / "one"


@pytest.fixture(scope="module")
def together(stages, folder, alone):
    _without_the_end(alone, folder / "after one")
    return processes.run(_all_of_two, stages, folder, seconds=300)


def _assert_close(losses: list, expected: list) -> None:
    assert [(step, clips) for step, _, clips in losses] == [(step, clips) for step, _, clips in expected]
    for (step, found, _), (_, wanted, _) in zip(losses, expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-5), f"step {step}"


def test_copies_of_every_stage_are_equal_to_the_bit(together):
    _assert_equal_copies(together, 3)


def test_two_processes_take_the_steps_of_one(together, folder, alone):
    _assert_close(_losses(folder / "two"), _losses(alone))


def test_another_number_of_processes_goes_on(together, folder, alone):
    """From one to two, and from two to one."""
    _without_the_end(folder / "two", folder / "after two")
    with _quick():
        recipes.run(_slap(6), folder=folder / "after two")
    for name in ("after one", "after two"):
        _assert_close(_losses(folder / name), _losses(alone))


def test_a_decoder_that_was_spread_is_saved_whole(together, folder):
    (config, whole), (other, spread) = (saved.decoder(folder / name) for name in ("two", "sharded"))
    assert config == other and whole.keys() == spread.keys()
    for name, tensor in whole.items():
        np.testing.assert_allclose(spread[name].numpy(), tensor.numpy(), atol=1e-5, err_msg=name)


SETTINGS = (
    "model.audio.width=24",
    "model.audio.depth=3",
    "model.audio.heads=2",
    "model.audio.hidden=24",
    "objectives.1.hidden=16",
    "objectives.1.prototypes=16",
    "objectives.2.width=16",
    "objectives.2.hidden=16",
    "budget.clips=4",
    "training.steps=12",
    "training.save_every=4",
    "checks=[]",
    "threads=1",
)


def _start(folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "lapis.cli", "train", "slap", "--form", "pocket", "--out", str(folder), *more]
    command += ["--device", "cpu", "--set", *SETTINGS]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def test_killed_and_resumed_slap_is_slap_uninterrupted(tmp_path):
    """Teacher, masks, alarm and decoder go on as they were."""
    recipes.run(recipes.override(recipes.find("slap", form="pocket"), SETTINGS), folder=tmp_path / "whole")
    killed = tmp_path / "killed"
    process = _start(killed)
    deadline = time.monotonic() + 100
    while len(_losses(killed)) < 6:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 6 <= len(_losses(killed)) < 12
    resumed = _start(killed, "--resume")
    _, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, errors.decode()
    assert _losses(killed) == _losses(tmp_path / "whole")
    for name in ("model.safetensors", "captioner.safetensors"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
