import pytest
from planting import plant, speech

from lapis.data.sample import Location, Sample
from lapis.datasets.reading import MissingClips
from lapis.datasets.yodas import Yodas

FIRST, SECOND = "lrPmXjDCo_o-00000-00000000-00000200", "lrPmXjDCo_o-00001-00000200-00000512"


def tree(root):
    plant(
        root / "yodas" / "data" / "ja000",
        {
            "text/00000000.txt": f"{FIRST} こんにちは、 世界\n{SECOND} \n",
            "duration/00000000.txt": f"{FIRST} 2.00\n{SECOND} 3.12\n",
        },
        (f"audio/00000000/{FIRST}.wav", f"audio/00000000/{SECOND}.wav"),
    )
    return [Yodas("ja000")]


def test_an_utterance_and_one_without_text(data):
    folder = data / "yodas/data/ja000/audio/00000000"
    common = {"source": "youtube:lrPmXjDCo_o", "split": "train"}
    assert tree(data)[0].build() == [
        speech(folder, f"{FIRST}.wav", FIRST, "こんにちは、 世界", language="jpn_Jpan", seconds=2.0, **common),
        Sample(
            key=SECOND,
            audio=Location(folder / f"{SECOND}.wav"),
            seconds=3.12,
            domain="speech",
            language="jpn_Jpan",
            **common,
        ),
    ]


def test_a_shard_that_is_not_unpacked(data):
    source = tree(data)[0]
    plant(data / "yodas/data/ja000", {f"{kind}/00000001.txt": "a-0-0-1 1.00\n" for kind in ("text", "duration")})
    with pytest.warns(MissingClips, match="1 of 3 clips"):
        assert len(source.build()) == 2
    (data / "yodas/data/ja000/duration/00000001.txt").unlink()
    with pytest.raises(ValueError, match=r"duration/00000001\.txt: expected a file"):
        source.build()


@pytest.mark.parametrize("subset", ["ja", "000", "xx000"])
def test_a_subset_that_is_none(data, subset):
    tree(data)
    with pytest.raises(ValueError, match=r"a language and three digits|no language 'xx'"):
        Yodas(subset).build()
