import json

import pytest

from lapis import values
from lapis.layers.transformer import RMSNorm, SwiGLU, Transformer
from lapis.values import from_values, nearest, to_values


def test_classes_travel_by_their_path():
    config = Transformer.Config(norm=RMSNorm, feedforward=SwiGLU, windows=(4, None))
    plain = json.loads(json.dumps(to_values(config)))
    assert plain["norm"] == {"type": "lapis.layers.transformer:RMSNorm"}
    assert from_values(plain) == config


def test_settings_of_other_libraries_come_back_as_they_are():
    settings = {
        "layers": ["full", "local"],
        "none": [],
        "rope": {"type": "dynamic"},
        "sizes": (1, 2),
        "deep": [[1], (2,)],
    }
    assert from_values(json.loads(json.dumps(to_values(settings)))) == settings


def test_what_is_older_than_a_field_gets_its_default():
    plain = to_values(Transformer.Config(norm_heads=True))
    del plain["causal"]
    assert from_values(plain) == Transformer.Config(norm_heads=True)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"class": "os:system"}, "of trusted packages only"),
        ({"class": "lapisx:Recipe"}, "of trusted packages only"),
        ({"type": "lapis.files:Path"}, r"of trusted packages only .*, got 'lapis\.files:Path'"),
        ({"type": "lapis.recipe:importlib.import_module"}, "expected a class"),
        ({"class": "lapis.recipe:Nothing"}, r"has no 'lapis\.recipe:Nothing'"),
        ({"class": "lapis.nothing:Recipe"}, r"has no 'lapis\.nothing:Recipe'"),
        ({"class": "lapis.recipe:find"}, "expected a class"),
        ({"class": 3}, "expected the path of a class as module:Name, got 3"),
        ({"class": "lapis.data.batching:Budget", "clip": 3}, "has no field 'clip', did you mean 'clips'"),
        ({"class": "lapis.train.optim:Cosine", "peak": 1.0}, "needs the field 'warmup_steps'"),
        ({"class": "lapis.layers.transformer:Gelu", "width": 3}, "is not a configuration"),
    ],
)
def test_what_is_not_ours_is_refused(plain, message):
    with pytest.raises(ValueError, match=message):
        from_values(plain)


def test_a_program_may_trust_its_own_package(monkeypatch):
    plain = {"type": "collections:OrderedDict"}
    with pytest.raises(ValueError, match="of trusted packages only"):
        from_values(plain)
    monkeypatch.setattr(values, "TRUSTED", {*values.TRUSTED, "collections"})
    assert from_values(plain).__name__ == "OrderedDict"


def test_the_nearest_name_is_named_where_one_is_near():
    assert nearest("widht", ["width", "depth"]) == ", did you mean 'width'?"
    assert nearest("colour", ["width", "depth"]) == ""
