"""BLEU, ROUGE-L and CIDEr-D: equal to the caption evaluation kit on examples, at random and at the edges."""

import contextlib
import io
import random

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from lapis.evaluation.captions.cider import cider_d
from lapis.evaluation.captions.overlap import bleu, rouge_l
from lapis.evaluation.captions.tokens import tokenise

CAPTIONS = ["a man is speaking", "rain falls"]
REFERENCES = [
    ["a man speaks.", "someone speaks.", "a man is speaking while a bird is chirping in the background"],
    ["rain is falling hard on a surface"],
]


def words(captions, references):
    return [tokenise(text) for text in captions], [[tokenise(text) for text in texts] for texts in references]


def assert_as_the_kit(candidates, references):
    gold = {number: [" ".join(text) for text in texts] for number, texts in enumerate(references)}
    said = {number: [" ".join(text)] for number, text in enumerate(candidates)}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu_corpus, bleu_clips = Bleu(4).compute_score(gold, said)
    pairs = list(zip(bleu(candidates, references=references), zip(bleu_corpus, bleu_clips)))
    pairs.append((rouge_l(candidates, references=references), Rouge().compute_score(gold, said)))
    pairs.append((cider_d(candidates, references=references), Cider().compute_score(gold, said)))
    assert len(pairs) == 6
    for ours, (corpus, clips) in pairs:
        np.testing.assert_allclose(ours.corpus, corpus, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(ours.clips, clips, rtol=1e-12, atol=1e-15)


def test_the_figures_that_aac_metrics_prints_for_its_example():
    candidates, references = words(CAPTIONS, REFERENCES)
    assert bleu(candidates, references=references)[0].corpus == pytest.approx(0.4278, abs=5e-5)
    scored = cider_d(candidates, references=references)
    assert scored.corpus == pytest.approx(0.9614, abs=5e-5)
    np.testing.assert_allclose(scored.clips, [1.3641, 0.5587], atol=5e-5)
    assert_as_the_kit(candidates, references)


@pytest.mark.parametrize("seed", range(12))
def test_random_captions_score_as_in_the_kit(seed):
    """Few words repeat a lot, many hardly match; clips have one to five references; some captions are empty."""
    rng = random.Random(seed)
    vocabulary = [f"w{number}" for number in range(rng.choice([2, 5, 30]))] + ["犬", "café"]

    def text(shortest):
        return tuple(rng.choice(vocabulary) for _ in range(rng.randint(shortest, 9)))

    number = rng.choice([1, 2, 5, 30])
    references = [[text(1) for _ in range(rng.randint(1, 5))] for _ in range(number)]
    assert_as_the_kit([text(0) for _ in range(number)], references)


@pytest.mark.parametrize(
    ("captions", "references"),
    [
        (["", "a dog"], [["a dog barks"], ["a dog"]]),
        (["dog", "犬が吠える", "собака"], [["dog"], ["犬が吠える", "犬"], ["a dog", "собака", "собака лает громко"]]),
        (["rain " * 40, "rain"], [["rain"], ["rain " * 40]]),
        (["a dog barks"] * 3, [["a dog barks"], ["a dog barks"] * 5, ["a dog barks", "a cat"]]),
        (["completely different words here"], [["a dog barks loudly"]]),
        (["...", "a dog"], [["a dog barks"], ["a dog", "..."]]),
    ],
)
def test_captions_at_the_edges_score_as_in_the_kit(captions, references):
    assert_as_the_kit(*words(captions, references))


def test_silence_is_worth_nothing_even_against_silence():
    """The kit's ROUGE-L gives one here: it takes no words for one empty word on both sides."""
    assert rouge_l([()], references=[[()]]).corpus == 0
    assert Rouge().compute_score({0: [""]}, {0: [""]})[0] == pytest.approx(1)
    assert cider_d([(), ("a",)], references=[[()], [("a",)]]).clips[0] == 0


def test_perfect_captions_score_what_they_can():
    candidates, references = words(
        ["a dog barks loudly", "rain falls on the roof"], [["a dog barks loudly"], ["rain falls on the roof"]]
    )
    assert bleu(candidates, references=references)[3].corpus == pytest.approx(1)
    assert rouge_l(candidates, references=references).corpus == 1
    np.testing.assert_allclose(cider_d(candidates, references=references).clips, 10)


def test_a_corpus_of_one_clip_tells_cider_nothing():
    candidates, references = words(["a dog barks"], [["a dog barks"]])
    assert cider_d(candidates, references=references).corpus == 0


def test_bleu_adds_up_counts_and_is_no_mean_of_clips():
    candidates, references = words(["a dog", "rain falls hard on the old roof"], [["a dog"], ["wind"]])
    scored = bleu(candidates, references=references)[0]
    assert scored.corpus != pytest.approx(scored.clips.mean())
    assert scored.corpus == pytest.approx(2 / 9)  # two of nine words; no penalty, the captions are longer


@pytest.mark.parametrize("score", [bleu, rouge_l, cider_d])
def test_what_cannot_be_scored_is_refused(score):
    with pytest.raises(ValueError, match="expected captions and as many sets of references, got 0, 0"):
        score([], references=[])
    with pytest.raises(ValueError, match="got 1, 2"):
        score([("a",)], references=[[("a",)], [("b",)]])
    with pytest.raises(ValueError, match="clip 1 has no reference"):
        score([("a",), ("b",)], references=[[("a",)], []])
