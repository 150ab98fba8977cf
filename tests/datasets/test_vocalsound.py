import json

import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.vocalsound import VocalSound


def tree(root):
    items = [
        {"wav": "/home/author/vocalsound/audio_16k/f0003_0_cough.wav", "labels": "/m/01b_21"},
        {"wav": "/home/author/vocalsound/audio_16k/m0102_1_throatclearing.wav", "labels": "/m/0dl9sf8"},
    ]
    plant(
        root / "vocalsound",
        {
            "class_labels_indices_vs.csv": "index,mid,display_name\n"
            '2,/m/01b_21,"Cough"\n3,/m/0dl9sf8,"Throat clearing"\n',
            "datafiles/tr.json": json.dumps({"data": items}),
        },
        tuple(
            f"audio_{rate}/{name}.wav"
            for rate in ("16k", "44k")
            for name in ("f0003_0_cough", "m0102_1_throatclearing")
        ),
    )
    return [VocalSound("train"), VocalSound("train", audio="audio_44k")]


def test_paths_of_another_machine(data):
    small, large = (source.build() for source in tree(data))
    assert small == [
        Sample(
            key=f"{name}.wav",
            audio=Location(data / f"vocalsound/audio_16k/{name}.wav"),
            label=label,
            domain="sound",
            speaker=name[:5],
            split="train",
        )
        for name, label in (("f0003_0_cough", "Cough"), ("m0102_1_throatclearing", "Throat clearing"))
    ]
    assert large[0].audio.path == data / "vocalsound/audio_44k/f0003_0_cough.wav"


def test_a_class_that_is_none(data):
    source, _ = tree(data)
    plant(data / "vocalsound", {"datafiles/tr.json": '{"data": [{"wav": "a.wav", "labels": "/m/x"}]}'})
    with pytest.raises(ValueError, match=r"tr\.json: expected a 'wav' and 'labels' out of .*class_labels_indices_vs"):
        source.build()
