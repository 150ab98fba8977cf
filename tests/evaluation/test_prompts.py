"""Prompts as a value: every sentence, ensembles, and what does not fit."""

import numpy as np
import pytest

from lapis.data.sample import Location, Sample
from lapis.evaluation.prompts import Prompts, shown
from lapis.evaluation.zeroshot import ZeroShot

PROMPTS = Prompts(
    {"eng_Latn": ("{name}", "the sound of {name}"), "deu_Latn": ("Zu hören: {name}",)},
    {
        "eng_Latn": {"dog": ("a dog", "barking"), "rain": ("rain",)},
        "deu_Latn": {"dog": ("ein Hund",), "rain": ("Regen",)},
    },
)


def test_every_template_meets_every_name():
    assert PROMPTS.sentences("eng_Latn") == {
        "dog": ("a dog", "barking", "the sound of a dog", "the sound of barking"),
        "rain": ("rain", "the sound of rain"),
    }
    both = PROMPTS.sentences("deu_Latn", "eng_Latn", labels=("rain",))
    assert both == {"rain": ("Zu hören: Regen", "rain", "the sound of rain")}
    protocol = PROMPTS.zero_shot("deu_Latn")
    assert protocol == ZeroShot(PROMPTS.sentences("deu_Latn"), languages=("deu_Latn",))


def test_captions_of_the_clips_can_be_the_prompts(tmp_path):
    def sample(key, label, **captions):
        return Sample(key, Location(tmp_path / key), label=label, captions=captions)

    samples = [
        sample("a", "dog", eng_Latn=("a dog barks", " "), deu_Latn=("ein Hund bellt",)),
        sample("b", "dog", eng_Latn=("barking", "a dog barks")),
        sample("c", "rain", eng_Latn=("rain falls",)),
    ]
    prompts = Prompts.by_captions(samples)
    assert prompts.languages == ("eng_Latn",)  # of rain there is nothing in German
    assert prompts.sentences("eng_Latn") == {"dog": ("a dog barks", "barking"), "rain": ("rain falls",)}
    with pytest.raises(ValueError, match="no prompts in deu_Latn; there are eng_Latn"):
        prompts.zero_shot("deu_Latn")


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="prompts in deu_Latn: expected templates and names"):
        Prompts({"deu_Latn": ("{name}",)}, {})
    with pytest.raises(ValueError, match=r"template 'a \{label\}' in eng_Latn: expected \{name\}"):
        Prompts({"eng_Latn": ("a {label}",)}, {"eng_Latn": {"dog": ("dog",)}})
    with pytest.raises(ValueError, match="have no template"):
        Prompts({"eng_Latn": ()}, {"eng_Latn": {"dog": ("dog",)}})
    with pytest.raises(ValueError, match="class 'dog' has no name in eng_Latn"):
        Prompts({"eng_Latn": ("{name}",)}, {"eng_Latn": {"dog": ("",)}})
    with pytest.raises(ValueError, match="class 'cat' has no name in eng_Latn"):
        PROMPTS.sentences("eng_Latn", labels=("cat",))
    with pytest.raises(ValueError, match="at least one language"):
        PROMPTS.sentences()


def test_prompts_are_shown_whole():
    assert shown(PROMPTS.sentences("deu_Latn")) == "dog: Zu hören: ein Hund; rain: Zu hören: Regen"
    assert shown({"yes": ("yes",), "no": ("no",)}) == "each of 2 classes by its own name"
    assert shown({str(number): (f"x{number}",) for number in np.arange(60)}).count("x") == 60
