import json

import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.reading import MissingClips
from lapis.datasets.wavcaps import WavCaps

UNPACKED = "Zip_files/{0}/mnt/fast/nobackup/WavCaps/data/waveforms/{0}_flac/"


def _items(*items):
    return json.dumps({"num_captions_per_audio": 1, "data": items}, ensure_ascii=False)


def tree(root):
    audioset = {"id": "Yb0RFKhbpFJA.wav", "caption": "Wind.", "audio": "wav_path", "duration": 10.0}
    freesound = {
        "id": "180913",
        "file_name": "UK Mello – déjà vu.wav",
        "tags": ["Standard"],
        "caption": "A telephone rings.",
        "duration": 3.204375,
    }
    leaked = {"id": "2219", "caption": "A dog barks.", "duration": 1.5}
    soundbible = {"id": "2219", "title": "Airplane", "caption": "An aircraft lands.", "duration": 14.1424375}
    plant(
        root / "wavcaps",
        {
            "json_files/AudioSet_SL/as_final.json": _items(audioset),
            "json_files/FreeSound/fsd_final.json": _items(freesound, leaked),
            "json_files/SoundBible/sb_final.json": _items(soundbible),
            "json_files/blacklist/blacklist_exclude_all_ac.json": json.dumps({"AudioSet": [], "FreeSound": ["2219"]}),
        },
        (
            UNPACKED.format("AudioSet_SL") + "Yb0RFKhbpFJA.flac",
            UNPACKED.format("FreeSound") + "180913.flac",
            UNPACKED.format("FreeSound") + "2219.flac",
            UNPACKED.format("SoundBible") + "2219.flac",
        ),
    )
    return [WavCaps("AudioSet_SL"), WavCaps("FreeSound", without="all_ac"), WavCaps("SoundBible")]


def test_ids_of_each_origin(data):
    audioset, freesound, soundbible = (source.build() for source in tree(data))
    assert freesound == [
        Sample(
            key="FreeSound/180913",
            audio=Location(data / "wavcaps" / (UNPACKED.format("FreeSound") + "180913.flac")),
            captions={"eng_Latn": ("A telephone rings.",)},
            seconds=3.204375,
            domain="sound",
            source="freesound:180913",
            split="train",
        )
    ]
    assert [(sample.key, sample.source) for sample in audioset] == [("AudioSet_SL/Yb0RFKhbpFJA", "youtube:b0RFKhbpFJA")]
    # The same id as in FreeSound, and another sound.
    assert soundbible[0].audio.path == data / "wavcaps" / (UNPACKED.format("SoundBible") + "2219.flac")


def test_without_a_black_list_all_clips_come(data):
    tree(data)
    assert [sample.key for sample in WavCaps("FreeSound").build()] == ["FreeSound/180913", "FreeSound/2219"]


def test_no_sound_of_an_origin(data):
    tree(data)
    item = {"id": "07066104", "description": "Rip saw", "caption": "A saw.", "duration": 138.36}
    plant(data / "wavcaps", {"json_files/BBC_Sound_Effects/bbc_final.json": _items(item)})
    with pytest.raises(ValueError, match=r"bbc_final\.json has 1 such clips, but there is a sound file for none"):
        WavCaps("BBC_Sound_Effects").build()


def test_missing_clips_are_counted(data):
    source = tree(data)[1]
    more = [{"id": str(number), "caption": "x", "duration": 1} for number in (180_913, 5, 6)]
    plant(data / "wavcaps", {"json_files/FreeSound/fsd_final.json": _items(*more)})
    with pytest.warns(MissingClips, match="2 of 3 clips"):
        assert len(source.build()) == 1


@pytest.mark.parametrize("text", ['{"data": [{"id": 1}]}', '{"data": [1]}', '{"items": []}', '{"data": [{"id": "1"'])
def test_other_json_is_named(data, text):
    source = tree(data)[1]
    plant(data / "wavcaps", {"json_files/FreeSound/fsd_final.json": text})
    with pytest.raises(ValueError, match=r"fsd_final\.json"):
        source.build()
