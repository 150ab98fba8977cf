import json

from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.nsynth import Nsynth

NOTE = "bass_synthetic_068-049-025"


def tree(root):
    about = {
        "note": 217_499,
        "pitch": 49,
        "instrument_family_str": "synth_lead",
        "instrument_source_str": "synthetic",
        "note_str": NOTE,
    }
    plant(
        root / "nsynth",
        {"nsynth-test/examples.json": json.dumps({NOTE: about})},
        (f"nsynth-test/audio/{NOTE}.wav",),
    )
    return [Nsynth("test"), Nsynth("test", label="pitch")]


def test_family_or_pitch(data):
    family, pitch = (source.build() for source in tree(data))
    assert family == [
        Sample(
            key=NOTE,
            audio=Location(data / f"nsynth/nsynth-test/audio/{NOTE}.wav"),
            seconds=4.0,
            label="synth lead",
            domain="music",
            split="test",
        )
    ]
    assert pitch[0].label == "49"
