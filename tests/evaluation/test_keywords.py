"""Words spotted language by language, on tones whose words name their pitch."""

import json

import numpy as np
import pytest
from pitch import CollapsedEmbedder, PitchEmbedder, pitched

from lapis.evaluation.keywords import Keywords
from lapis.evaluation.zeroshot import ZeroShot


@pytest.fixture
def clips(tmp_path):
    def word(key, hertz, language, text, **fields):
        return pitched(tmp_path, key, hertz=hertz, language=language, captions={language: (text,)}, **fields)

    return [
        word("a", 500, "deu_Latn", "500 Hertz"),
        word("b", 1000, "deu_Latn", "1000 Hertz"),
        word("c", 950, "deu_Latn", "500 Hertz"),  # said as another word
        word("d", 2000, "fra_Latn", "2000 hertz"),
        word("e", 3000, "fra_Latn", "3000 hertz"),
        word("f", 3000, "spa_Latn", "3000 hertz"),
    ]


def test_each_language_is_a_task_and_counts_alike(clips):
    result = Keywords().run(PitchEmbedder(), clips=clips)
    assert result.figures["accuracy deu_Latn"].value == pytest.approx(2 / 3)
    assert result.figures["accuracy fra_Latn"].value == 1
    assert result.figures["accuracy"].value == pytest.approx((2 / 3 + 1) / 2)
    assert result.figures["accuracy"].chance == pytest.approx(1 / 2)
    assert result.left_out == {"spa_Latn": "1 words among 1 clips"} and "1 languages have fewer" in result.protocol
    for name, items in result.items.items():
        assert items.mean() == pytest.approx(result.figures[name].value)
    alone = ZeroShot({"2000 hertz": ("2000 hertz",), "3000 hertz": ("3000 hertz",)})
    labelled = [pitched(clips[3].audio.path.parent, "x", hertz=2000, label="2000 hertz")]
    labelled.append(pitched(clips[3].audio.path.parent, "y", hertz=3000, label="3000 hertz"))
    assert alone.run(PitchEmbedder(), clips=labelled).accuracy == result.by_language["fra_Latn"].accuracy
    assert json.loads(json.dumps(result.to_dict()))["prompts"]["fra_Latn"]["2000 hertz"] == ["2000 hertz"]


def test_languages_never_given_to_training_stand_apart(clips):
    result = Keywords().run(PitchEmbedder(), clips=clips)
    parts = result.by_training({"fra_Latn", "eng_Latn"})
    assert parts["accuracy, 1 languages given to training"].value == 1
    assert parts["accuracy, 1 languages never given to training"].value == pytest.approx(2 / 3)
    assert list(result.by_training(set())) == ["accuracy, 2 languages never given to training"]


def test_a_transcript_comes_before_captions_and_ties_count_against_the_model(clips, tmp_path):
    words = [
        pitched(
            tmp_path, key, hertz=hertz, language="eng_Latn", transcript=f"{hertz} hertz", captions={"eng_Latn": ("9",)}
        )
        for key, hertz in (("p", 500), ("q", 1500))
    ]
    assert Keywords().run(PitchEmbedder(), clips=words).figures["accuracy"].value == 1
    collapsed = Keywords().run(CollapsedEmbedder(), clips=[*clips, *words])
    assert all(figure.value == 0 for figure in collapsed.figures.values())
    assert np.all(collapsed.items["accuracy"] == 0)


def test_what_has_no_word_is_named(clips, tmp_path):
    with pytest.raises(ValueError, match="clip g has no language"):
        Keywords().run(PitchEmbedder(), clips=[*clips, pitched(tmp_path, "g", hertz=400)])
    with pytest.raises(ValueError, match="clip g has no word in eng_Latn"):
        Keywords().run(PitchEmbedder(), clips=[*clips, pitched(tmp_path, "g", hertz=400, language="eng_Latn")])
    with pytest.raises(ValueError, match="no language has 9 words"):
        Keywords(min_words=9).run(PitchEmbedder(), clips=clips)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        Keywords(min_words=1)
