from planting import plant, speech

from lapis.data.sample import Location
from lapis.datasets.common_voice import CommonVoice

OPTIONAL = {"clip_durations.tsv"}
HEADER = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\tlocale\tsegment\n"
RELEASE = "cv-corpus-17.0-2024-03-15"


def tree(root):
    plant(
        root / "common_voice" / RELEASE / "de",
        {
            "test.tsv": HEADER
            + 'abc\tcommon_voice_de_17298952.mp3\t1\t"Das Haus ist groß.\t\t2\t0\t\t\tde\t\n'
            + "abd\tcommon_voice_de_17298953.mp3\t2\t\t\t0\t0\t\t\tde\t\n",
            "clip_durations.tsv": "clip\tduration[ms]\ncommon_voice_de_17298952.mp3\t4608\n",
        },
        ("clips/common_voice_de_17298952.mp3", "clips/common_voice_de_17298953.mp3"),
    )
    return [CommonVoice("test", language="de")]


def test_sentences_with_quotes_of_their_own(data):
    first, second = tree(data)[0].build()
    assert first == speech(
        data / "common_voice" / RELEASE / "de/clips",
        "common_voice_de_17298952.mp3",
        "common_voice_de_17298952.mp3",
        '"Das Haus ist groß.',
        language="deu_Latn",
        seconds=4.608,
        speaker="abc",
        split="test",
    )
    place = Location(data / "common_voice" / RELEASE / "de/clips/common_voice_de_17298953.mp3")
    assert (second.audio, second.transcript, second.captions, second.seconds) == (place, None, {}, None)
