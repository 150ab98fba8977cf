"""Every recipe in the folder: it is a value, its fields are read somewhere, and its first steps can be taken."""

import importlib
import inspect
import re
from dataclasses import fields, is_dataclass

import pytest

from lapis import recipe as recipes

NAMES = recipes.names()
# What makes each recipe small enough to try here.
SMALL = {
    "glap": (
        "model.audio.width=24",
        "model.audio.depth=1",
        "model.audio.heads=2",
        "model.audio.hidden=24",
        "budget.clips=6",
        "training.steps=2",
        "checks=[]",
        "threads=1",
    ),
    "lapis": (
        "model.audio.width=24",
        "model.audio.depth=3",
        "model.audio.heads=2",
        "model.audio.hidden=24",
        "objectives.1.width=16",
        "objectives.1.depth=1",
        "objectives.2.width=16",
        "objectives.2.hidden=16",
        "budget.clips=6",
        "training.steps=2",
        "checks=[]",
        "threads=1",
    ),
    "m2d_clap": (
        "model.audio.width=24",
        "model.audio.depth=1",
        "model.audio.heads=2",
        "model.audio.hidden=24",
        "objectives.0.width=16",
        "objectives.0.depth=1",
        "budget.clips=6",
        "training.steps=2",
        "checks=[]",
        "threads=1",
    ),
    "pocket": (
        "model.audio.width=24",
        "model.audio.depth=3",
        "model.audio.heads=2",
        "model.audio.hidden=24",
        "budget.clips=6",
        "training.steps=2",
        "checks=[]",
        "threads=1",
    ),
    "slap": (
        "model.audio.width=24",
        "model.audio.depth=3",
        "model.audio.heads=2",
        "model.audio.hidden=24",
        "objectives.1.hidden=16",
        "objectives.1.prototypes=16",
        "objectives.2.width=16",
        "objectives.2.hidden=16",
        "budget.clips=6",
        "training.steps=2",
        "checks=[]",
        "threads=1",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_named_after_its_module_and_documented(name):
    module = importlib.import_module(f"lapis.recipes.{name}")
    assert module.__doc__ and getattr(module, name).__doc__
    assert recipes.find(name).name == name
    assert recipes.loads(recipes.dumps(recipes.find(name))) == recipes.find(name)


def _tried(name):
    """The recipe in its form for the pocket corpus, where it has several."""
    function = getattr(importlib.import_module(f"lapis.recipes.{name}"), name)
    return function(form="pocket") if "form" in inspect.signature(function).parameters else function()


@pytest.mark.parametrize("name", NAMES)
def test_its_first_steps_can_be_taken(name, tmp_path):
    recipe = recipes.override(_tried(name), SMALL[name])
    progress = recipes.run(recipe, folder=tmp_path)
    assert progress.step == 2 and progress.position > 0
    assert {path.name for path in tmp_path.iterdir()} >= {"recipe.json", "model.safetensors", "log.jsonl", "curves.png"}


def _parts(value):
    if is_dataclass(value):
        yield type(value)
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _parts(item)


@pytest.mark.parametrize("name", NAMES)
def test_no_field_is_dead(name, root):
    """A field that nothing reads would be a promise that nobody keeps."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (root / "src").rglob("*.py"))
    owners = "self|config|recipe|budget|reading|_reading|training|part|check|captions|_captions|settings"
    owners += "|optimizer_config|front_end"
    for part in set(_parts(recipes.find(name))):
        for field in fields(part):
            read = rf"\b({owners})\.{field.name}\b"
            assert re.search(read, code), f"{part.__qualname__}.{field.name} is read nowhere"
