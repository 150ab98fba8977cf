"""The built-in probes: real, distinct, small, and the same on every machine."""

import numpy as np
import pytest

from lapis import audio, probes


@pytest.mark.parametrize("sample_rate", [16_000, 32_000, 48_000])
def test_sounds_last_a_second_at_any_rate(sample_rate):
    sounds = probes.sounds(sample_rate=sample_rate)
    assert len(sounds) == len(probes.PROBES) == 6
    for sound in sounds:
        assert sound.shape == (sample_rate,) and sound.dtype == np.float32
        assert 0.15 < np.abs(sound).max() < 0.25


def test_sounds_and_sentences_differ():
    waves = np.stack(probes.sounds(sample_rate=16_000))
    cosines = np.corrcoef(waves)[~np.eye(len(waves), dtype=bool)]
    assert np.abs(cosines).max() < 0.1
    assert len(set(probes.sentences())) == len(waves)


def test_files_are_small_lossless_and_accounted_for(root):
    folder = root / "src" / "lapis" / "probes"
    words = (folder / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in folder.glob("*.flac")} == {probe.name for probe in probes.PROBES}
    for probe in probes.PROBES:
        assert len(probe.content) <= 25_000
        assert audio.info(probe.content).format == "flac/pcm_16"
        assert words.count(f"`{probe.name}.flac`") == 1


def test_clips_are_in_the_public_domain(root):
    """Those that README.md names, by what the pocket corpus says of them."""
    from lapis.datasets.pocket import Pocket

    samples = {sample.key: sample for split in ("train", "test") for sample in Pocket(split).build()}
    rows = [
        line.split("|")
        for line in (root / "src" / "lapis" / "probes" / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) == len(probes.PROBES)
    for row in rows:
        key, split = row[5].split("`")[1], row[5].split("(")[1].split(")")[0]
        sample = samples[key]
        assert (sample.licence, sample.split, sample.source) == ("CC0-1.0", split, row[4].strip())


def test_a_change_of_the_probes_is_noticed():
    """Answers recorded with other probes cannot be compared any more: change this line only together with them."""
    assert probes.digest().hex() == "7f3c1c42d3a385ec9969aeb281938598f6175217a294ee371c946af0239453d4"
