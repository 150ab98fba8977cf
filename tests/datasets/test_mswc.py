import pytest
from planting import plant, speech

from lapis.datasets.mswc import Mswc
from lapis.datasets.reading import MissingClips


def tree(root):
    plant(
        root / "mswc" / "tt",
        {
            "tt_splits.csv": "SET,LINK,WORD,VALID,SPEAKER,GENDER\n"
            "TRAIN,абзар/common_voice_tt_17737010.opus,абзар,True,687025afd5ce,MALE\n"
            "DEV,йөз/common_voice_tt_17341269.opus,йөз,True,687025afd5ce,NAN\n"
        },
        ("clips/абзар/common_voice_tt_17737010.opus", "clips/йөз/common_voice_tt_17341269.opus"),
    )
    return [Mswc("train", language="tt"), Mswc("dev", language="tt")]


def test_words_in_their_own_script(data):
    assert tree(data)[0].build() == [
        speech(
            data / "mswc/tt/clips",
            "абзар/common_voice_tt_17737010.opus",
            "абзар/common_voice_tt_17737010.opus",
            "абзар",
            language="tat_Cyrl",
            seconds=1.0,
            label="абзар",
            speaker="687025afd5ce",
            split="train",
        )
    ]


def test_a_language_that_is_not_known(data):
    tree(data)
    with pytest.raises(ValueError, match="no language 'qq'"):
        Mswc("train", language="qq").build()


def test_missing_clips_are_counted(data):
    source, _ = tree(data)
    with (data / "mswc/tt/tt_splits.csv").open("a", encoding="utf-8") as file:
        file.write("TRAIN,абзар/gone.opus,абзар,True,x,NAN\n")
    with pytest.warns(MissingClips, match=r"1 of 2 clips of .*tt_splits\.csv .* the first is 'абзар/gone.opus'"):
        assert len(source.build()) == 1
