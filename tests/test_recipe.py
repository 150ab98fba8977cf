import json
from dataclasses import replace

import pytest

from lapis import recipe as recipes
from lapis.train.optim import Constant
from lapis.values import to_values


@pytest.fixture
def pocket():
    return recipes.find("pocket")


def test_a_recipe_survives_the_trip_through_json(pocket):
    assert recipes.loads(recipes.dumps(pocket)) == pocket


@pytest.mark.parametrize(
    ("setting", "path", "expected"),
    [
        ("training.steps=7", lambda r: r.training.steps, 7),
        ("schedule.peak=3e-4", lambda r: r.schedule.peak, 3e-4),
        ("schedule.peak=1", lambda r: r.schedule.peak, 1.0),
        ("name=other", lambda r: r.name, "other"),
        ("name=7", lambda r: r.name, "7"),
        ("threads=null", lambda r: r.threads, None),
        ("checks=[]", lambda r: r.checks, ()),
        ("model.audio.augment=null", lambda r: r.model.audio.augment, None),
        ("model.audio.norm_heads=true", lambda r: r.model.audio.norm_heads, True),
        ("optimizer.betas=[0.8,0.9]", lambda r: r.optimizer.betas, (0.8, 0.9)),
        ("weights.contrast=0.5", lambda r: r.weights["contrast"], 0.5),
        ("objectives.0.positives=pair", lambda r: r.objectives[0].positives, "pair"),
        ("data.parts.1.weight=2", lambda r: r.data.parts[1].weight, 2.0),
        ('data.captions.languages={"eng_Latn": 1.0}', lambda r: r.data.captions.languages, {"eng_Latn": 1.0}),
        ("training.precision=bfloat16", lambda r: r.training.precision, "bfloat16"),
        ("data.parts.0.source.split=val", lambda r: r.data.parts[0].source.split, "val"),
    ],
)
def test_a_field_is_replaced_and_nothing_else(pocket, setting, path, expected):
    changed = recipes.override(pocket, [setting])
    assert path(changed) == expected and type(path(changed)) is type(expected)
    before, after = to_values(pocket), to_values(changed)
    name = setting.split("=")[0].split(".")[0]
    assert {key for key in before if before[key] != after[key]} == {name}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.audio.widht=3", r"no field 'model\.audio\.widht', did you mean 'width'\?; the fields are front_end,"),
        ("stepz=3", r"no field 'stepz'"),
        ("training.steps=many", r"training\.steps: input should be a valid integer, got 'many'"),
        ("training.steps=1.5", r"training\.steps: input should be a valid integer, got '1\.5'"),
        ("training.steps=true", r"training\.steps: input should be a valid integer, got 'true'"),
        ("training.precision=float8", r"training\.precision: input should be 'float32', 'bfloat16' or 'float16', got"),
        ("weights.contrst=1", r"no entry 'weights\.contrst', did you mean 'contrast'\?"),
        ("objectives.5.temperature=1", r"expected a number below 1 in 'objectives\.5', got '5'"),
        ("training.steps.more=1", r"'training\.steps' is \d+, which has no field 'more'"),
        ("training=1", r"'training' has fields of its own: set one of training\.steps,"),
        ("training=null", r"'training' cannot be set from the command line"),
        ("steps", "expected field=value, got 'steps'"),
    ],
)
def test_what_does_not_fit_is_explained(pocket, setting, message):
    with pytest.raises(ValueError, match=message):
        recipes.override(pocket, [setting])


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match=r"no recipe 'pockett', did you mean 'pocket'\?"):
        recipes.find("pockett")


def test_a_recipe_in_stages_is_asked_for_one():
    assert recipes.find("m2d_clap", stage="1", form="pocket") != recipes.find("m2d_clap", stage="1")
    with pytest.raises(ValueError, match="form must be one of 'paper', 'pool', 'pocket', got 'large'"):
        recipes.find("m2d_clap", form="large")
    with pytest.raises(ValueError, match="the recipe pocket has no stage"):
        recipes.find("pocket", stage="1")


def test_a_recipes_further_choices_are_to_be_had_by_name():
    assert recipes.find("glap", processes="4").budget.clips == 2 * recipes.find("glap", processes=8).budget.clips
    assert recipes.find("glap", departures="as_released") != recipes.find("glap")
    with pytest.raises(ValueError, match="processes: expected a whole number, got 'four'"):
        recipes.find("glap", processes="four")


def test_foreign_json_is_refused():
    with pytest.raises(ValueError, match="expected a recipe, got Constant"):
        recipes.loads(json.dumps(to_values(Constant(peak=1.0, warmup_steps=1))))


def test_recipes_are_values(pocket):
    assert pocket == recipes.find("pocket")
    assert replace(pocket, schedule=Constant(1e-3)) != pocket
    with pytest.raises(AttributeError):
        pocket.seed = 3
