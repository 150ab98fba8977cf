"""Names of classes in five languages: complete, told apart, in the right script, checked; and what becomes of them."""

import importlib
import re
import string

import pytest

from lapis import datasets as corpora
from lapis.datasets import crema_d, ravdess
from lapis.evaluation.labels import LANGUAGES, datasets, phrases, prompts, templates
from lapis.evaluation.zeroshot import ZeroShot
from lapis.text_encoders.sentence import MULTILINGUAL_USE, Sentence

SIZES = {
    "crema_d": 6,
    "esc50": 50,
    "gtzan": 10,
    "nsynth": 11,
    "ravdess": 8,
    "speech_commands": 35,
    "urbansound8k": 10,
    "vocalsound": 6,
}
# Marks, blanks and hyphens stand in every script; Japanese has kana with kanji, and numerals in kanji alone.
SCRIPTS = {
    "eng_Latn": r"[A-Za-z]+",
    "deu_Latn": r"[A-Za-zÄÖÜäöüß]+",
    "zho_Hans": r"[\u4e00-\u9fff]+",
    "jpn_Jpan": r"[\u3041-\u3096\u30a1-\u30fa\u30fc\u4e00-\u9fff]+",
    "rus_Cyrl": r"[А-Яа-яЁё]+",
}
PLAIN = r"[\s'.,:。、-]*"
# Forms that are written otherwise in mainland China, and kanji that only Japan has.
NOT_SIMPLIFIED = set("聲車門鳥馬貓雞豬鐘機電飛樂風開關時讀說話氣駅円気楽鶏猟児")
ALL = [(name, label, language) for name in datasets() for label in phrases(name) for language in LANGUAGES]


def test_the_data_sets_and_their_number_of_classes():
    assert {name: len(phrases(name)) for name in datasets()} == SIZES
    assert set(datasets()) <= set(corpora.names())


def test_the_labels_are_those_of_the_readers():
    assert set(phrases("crema_d")) == set(crema_d.EMOTIONS.values())
    assert tuple(phrases("ravdess")) == ravdess.EMOTIONS
    assert not [name for name in datasets() for label in phrases(name) if "_" in label or label != label.strip()]


@pytest.mark.parametrize("name", ["esc50", "gtzan", "nsynth", "speech_commands", "urbansound8k", "vocalsound"])
def test_labels_that_a_reader_gives_have_phrases(name, root, tmp_path, monkeypatch):
    """The files that the reader's own test plants have no class that is not in the table."""
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(root / "tests" / "datasets")
    sources = importlib.import_module(f"test_{name}").tree(tmp_path)
    found = {sample.label for source in sources for sample in source.build() if getattr(source, "label", "") != "pitch"}
    assert found - {None} and found - {None} <= set(phrases(name))


def test_every_label_has_every_language():
    missing = [place for place in ALL if place[2] not in phrases(place[0])[place[1]]]
    extra = [(name, label) for name in datasets() for label, of in phrases(name).items() if set(of) - set(LANGUAGES)]
    assert not missing and not extra


@pytest.mark.parametrize("name", datasets())
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_classes_are_the_same_and_none_is_empty(name, language):
    texts = [of[language].text for of in phrases(name).values()]
    assert all(text.strip() == text and text for text in texts)
    assert len({text.casefold() for text in texts}) == len(texts)


def test_scripts_fit_the_languages():
    for name, label, language in ALL:
        text = phrases(name)[label][language].text
        assert re.fullmatch(f"(?:{PLAIN}{SCRIPTS[language]})+{PLAIN}", text), f"{name} {label} {language}: {text}"
    simplified = "".join(of["zho_Hans"].text for name in datasets() for of in phrases(name).values())
    assert not NOT_SIMPLIFIED.intersection(simplified)


def test_every_translation_was_translated_back_and_disagreement_is_explained():
    for name, label, language in ALL:
        phrase = phrases(name)[label][language]
        where = f"{name} {label} {language}"
        if language == "eng_Latn":
            assert (phrase.checked, phrase.back, phrase.agreement) == ("original", "", None), where
            continue
        assert re.fullmatch(r"back-translated \d{4}-\d\d-\d\d", phrase.checked) and phrase.back, where
        assert phrase.agreement == "same" or phrase.note, where
        assert phrase.nearest == "" or (phrase.nearest in phrases(name) and phrase.nearest != label), where
        assert re.fullmatch(r"[A-Za-z' -]+", phrase.back), where


def test_equal_phrases_were_judged_equally():
    """The same text in the same language has one translation back wherever it stands."""
    back = {}
    for name, label, language in ALL:
        phrase = phrases(name)[label][language]
        assert back.setdefault((language, phrase.text), phrase.back) == phrase.back


def test_the_column_nearest_is_what_the_sentence_encoder_says():
    """Whoever changes a phrase is told when the independent judge sees another class in it."""
    encoder = Sentence.Config(MULTILINGUAL_USE, 512).build()
    agreed = 0
    for name in datasets():
        labels = list(phrases(name))
        english = encoder([phrases(name)[label]["eng_Latn"].text for label in labels])
        for language in LANGUAGES[1:]:
            similarity = encoder([phrases(name)[label][language].text for label in labels]) @ english.T
            for row, label in zip(similarity, labels):
                noted = phrases(name)[label][language].nearest or label
                assert row.max() - row[labels.index(noted)] < 0.01, f"{name} {label} {language}"  # ties by a machine
                agreed += noted == label
    assert agreed == 479


def test_templates_have_a_source_a_known_style_and_one_field():
    for name in [*datasets(), "fsd50k", "audioset", "vggsound", "mswc", "fluent_speech_commands"]:
        assert templates(name)
        for template in templates(name):
            fields = {field for _, field, _, _ in string.Formatter().parse(template.text) if field is not None}
            assert template.source and template.language in (("",) if name == "mswc" else LANGUAGES)
            if template.style == "lapis":
                assert template.source == "ours" and fields == {"phrase"}
            else:
                assert template.source != "ours" and template.language in ("eng_Latn", "")
                assert fields == (set() if template.only else {"label"})


def test_prompts_of_the_papers_hold_the_label_itself():
    assert prompts("esc50", styles=("glap",))["crackling fire"] == ("The sound of crackling fire can be heard.",)
    assert prompts("gtzan", styles=("glap", "evar"))["hiphop"] == (
        "The music in the style of hiphop.",
        "hiphop music can be heard",
    )
    assert prompts("crema_d", styles=("evar",))["neutral"] == ("someone talking calmly can be heard",)
    assert prompts("speech_commands", styles=("glap",), labels=("right",)) == {"right": ("right",)}
    assert prompts("fsd50k", styles=("evar",), labels=("Bass_guitar",)) == {
        "Bass_guitar": ("Bass guitar can be heard",)
    }


def test_a_spoken_word_is_asked_for_as_it_is_in_any_language():
    words = prompts("mswc", language="spa_Latn", styles=("glap",), labels=("casa", "perro"))
    assert words == {"casa": ("casa",), "perro": ("perro",)}


def test_our_prompts_hold_the_phrase_in_every_language():
    asked = {language: prompts("esc50", language=language)["cow"][0] for language in LANGUAGES}
    assert asked == {
        "eng_Latn": "You can hear a cow mooing.",
        "deu_Latn": "Zu hören: Muhen einer Kuh.",
        "zho_Hans": "可以听到牛叫声。",
        "jpn_Jpan": "牛の鳴き声が聞こえます。",
        "rus_Cyrl": "Слышно: мычание коровы.",
    }
    for name in datasets():
        for language in LANGUAGES:
            found = prompts(name, language=language)
            assert tuple(found) == tuple(phrases(name)) and len(set(found.values())) == len(found)
            assert ZeroShot(found).prompts == found


def test_what_is_not_there_is_said():
    with pytest.raises(ValueError, match=r"no phrases for 'esc5', did you mean 'esc50'\?"):
        phrases("esc5")
    with pytest.raises(ValueError, match=r"esc50: no template 'glap' in deu_Latn; there are .*lapis in deu_Latn"):
        prompts("esc50", language="deu_Latn", styles=("glap",))
    with pytest.raises(ValueError, match=r"crema_d: no sentence for 'calm'|no label 'calm'"):
        prompts("crema_d", styles=("evar",), labels=("calm",))
    with pytest.raises(ValueError, match=r"esc50: no label 'dogs', did you mean 'dog'\?"):
        prompts("esc50", labels=("dogs",))
    with pytest.raises(ValueError, match="no phrases for 'fsd50k'"):
        prompts("fsd50k")
    with pytest.raises(ValueError, match=r"fsd50k: no template 'lapis' in eng_Latn"):
        prompts("fsd50k", labels=("Bass_guitar",))
    with pytest.raises(ValueError, match="at least one style"):
        prompts("esc50", styles=())
