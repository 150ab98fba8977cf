"""METEOR without Java: equal to the published program, clip by clip and over the corpus."""

import random
import shutil

import numpy as np
import pytest
from pycocoevalcap.meteor.meteor import Meteor as Program

from lapis.evaluation.captions.meteor import Meteor
from lapis.evaluation.captions.meteor_data import MeteorData
from lapis.evaluation.captions.meteor_words import split_again
from lapis.evaluation.captions.scores import CaptionScoring
from lapis.evaluation.captions.tokens import tokenise

RECORDED = [
    (
        "a man is speaking",
        0.8241563055062167,
        ["a man speaks.", "someone speaks.", "a man is speaking while a bird is chirping in the background"],
    ),
    ("rain falls", 0.12809018869872418, ["rain is falling hard on a surface"]),
    ("a dog barks", 1.0, ["a dog barks"]),
    ("", 0.0, ["a dog barks"]),
    ("dog", 0.1340782122905028, ["a dog barks loudly", " dogs bark"]),
    ("犬が吠える", 0.48301897589178006, ["犬が吠える 。", "собака лает"]),
    ("a café door, a café bell", 0.23727839407442022, ["the café's bell rings as the door of a café opens"]),
    ("a high-pitched whistle doesn't stop", 0.36241546487193377, ["high pitched whistling that does not stop"]),
    (
        "a vehicle passes by and an automobile horn honks",
        0.25264111956311747,
        ["a car drives past and a car horn is honked"],
    ),
    ("a a a a a a the the of of", 0.2332677993943082, ["the of a of the a man of a the of"]),
    (
        "people are talking in the background while someone laughs",
        0.2773542818376885,
        ["in the background people talk and a person is laughing", "a crowd of persons speaking"],
    ),
    ("wind is blowing hard", 0.43354749322305886, ["hard is blowing wind"]),
    ("rain rain rain rain", 0.27586206896551724, ["rain"]),
    ("loud emergency sirens in the evening", 0.24416957591825178, ["an emergent siren is loud even at night"]),
    ("!!!", 0.0, ["a dog barks"]),
]
"""Captions, the figures that meteor-1.5.jar gave for them on 2026-11-21, and their references."""
RECORDED_CORPUS = 0.2750204800755956

WORDS = tokenise(
    "a the dog dogs barks barking is are loudly and while people person talking talk speaking speak man men woman in "
    "background rain falls falling car cars engine running runs then followed by of water someone individual chirp "
    "birds bird singing sings vehicle automobile passes past evening emergency siren sirens it's don't we're mr. u.s. "
    "etc. a.m. 1,000 10:30 and/or ( café !! ?! 犬が high-pitched state-of-the-art woof-woof-woof o'clock 2nd-floor % "
    "5.50 vs. 7 собака λ ß a-b-c does do wind blowing blows hard heavily heavy noise sound sounds group"
)


@pytest.fixture(scope="module")
def data():
    return MeteorData.installed()


def test_it_gives_what_the_program_gave():
    captions, figures, references = zip(*RECORDED)
    found = CaptionScoring().score(captions, references=references)
    np.testing.assert_allclose(found.clips["meteor"], figures, atol=1e-12)
    assert found.corpus["meteor"] == pytest.approx(RECORDED_CORPUS, abs=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
@pytest.mark.parametrize("seed", range(3))
def test_random_captions_score_as_in_the_program(data, seed):
    rng, number = random.Random(seed), 300

    def text(shortest):
        return tuple(rng.choice(WORDS) for _ in range(rng.randint(shortest, 14)))

    references = [[text(1) for _ in range(rng.randint(1, 5))] for _ in range(number)]
    candidates = [text(0) for _ in range(number)]
    for clip in range(0, number, 7):  # nearly right, and in another order
        nearly = list(rng.choice(references[clip]))
        nearly[rng.randrange(len(nearly))] = rng.choice(WORDS)
        candidates[clip] = tuple(nearly)
        candidates[clip + 1] = tuple(rng.sample(nearly, len(nearly)))
    ours = Meteor(data)(candidates, references=references)
    gold = {clip: [" ".join(text) for text in texts] for clip, texts in enumerate(references)}
    corpus, clips = Program().compute_score(gold, {clip: [" ".join(text)] for clip, text in enumerate(candidates)})
    np.testing.assert_allclose(ours.clips, clips, atol=1e-12)
    assert ours.corpus == pytest.approx(corpus, abs=1e-12)


@pytest.mark.parametrize(
    ("word", "same"),
    [("dogs", "dog"), ("geese", "goose"), ("berries", "berry"), ("firemen", "fireman"), ("hissed", "hiss")],
)
def test_a_form_has_the_meanings_of_its_base(data, word, same):
    assert data.meanings(same) and data.meanings(same) <= data.meanings(word)


def test_synonyms_share_a_meaning(data):
    assert data.meanings("automobile") & data.meanings("cars")
    assert not data.meanings("automobile") & data.meanings("dog")
    assert data.meanings("qwertyuiop") == frozenset()


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("a high-pitched ca n't it 's", "a high pitched ca n 't it ' s"),
        ("the u.s. at 10:30 a.m. and/or etc. 5", "the us at 10 : 30 am and / or etc . 5"),
        ("mr. x vs. mr. 犬が 1,000 5.50", "mr. x vs. mr . 犬 が 1,000 5.50"),
        ("-lrb- -5 a-b-c o'clock ?! café", "-lrb- -5 a b-c o 'clock ? ! café"),
    ],
)
def test_words_are_split_again_as_the_program_does(data, words, again):
    assert split_again(tuple(words.split()), abbreviations=data.abbreviations) == tuple(again.split())


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected METEOR's files, meteor-1\.5\.jar among them"):
        MeteorData(tmp_path)
