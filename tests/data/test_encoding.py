import io
import itertools

import numpy as np
import pytest
import soundfile

from lapis import audio
from lapis.data.encoding import OPUS_RATES, Codec


def _noise(count, *, seed=0):
    """Coloured, so that Opus can follow it."""
    white = np.random.default_rng(seed).normal(size=count + 64)
    return (0.2 * np.convolve(white, np.hanning(64) / 16, "valid")[:count]).astype(np.float32)


@pytest.mark.parametrize("rate", OPUS_RATES)
@pytest.mark.parametrize("count", [1, 100, 4321, 20_011])
def test_opus_keeps_every_sample_in_its_place(rate, count):
    sound = _noise(count)
    content, written = Codec("opus", rate, 64_000).encode([sound[:70], sound[70:]])
    assert written == count
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert (file.samplerate, file.channels, file.frames) == (rate, 1, count)
    read = audio.read(content, sample_rate=rate)
    assert len(read) == count
    if count > 10_000 and rate >= 16_000:
        likeness = [
            float(np.dot(read[200 + lag : count - 200 + lag], sound[200 : count - 200])) for lag in range(-50, 51)
        ]
        assert int(np.argmax(likeness)) == 50
        assert np.corrcoef(read, sound)[0, 1] > 0.95


def test_flac_is_exact_to_its_bits_and_does_not_wrap_round():
    sound = np.concatenate([_noise(5000), np.array([1.7, -1.7], np.float32)])
    content, written = Codec("flac", 22_050).encode([sound])
    read = audio.read(content)
    assert written == len(sound) == len(read)
    assert np.abs(read - np.clip(sound, -1, 1)).max() <= 2**-15


@pytest.mark.parametrize("codec", [Codec("opus"), Codec("flac")])
def test_the_same_samples_give_the_same_bytes_however_they_come(codec):
    sound = _noise(16_000 * 3 + 17)
    whole, _ = codec.encode([sound])
    again, _ = codec.encode([sound])
    pieces = [sound[begin:end] for begin, end in itertools.pairwise([0, 1, 900, 900, 30_000, len(sound)])]
    assert whole == again == codec.encode(pieces)[0]


def test_opus_takes_about_the_bits_it_is_given():
    sound = np.concatenate([_noise(16_000, seed=seed) for seed in range(10)])
    sizes = [len(Codec(bits_per_second=bits).encode([sound])[0]) * 8 / 10 for bits in (16_000, 32_000, 64_000)]
    for bits, size in zip((16_000, 32_000, 64_000), sizes, strict=True):
        assert 0.6 * bits < size < 1.6 * bits


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("opus", 44_100), r"Opus has the rates .*, got 44100: choose one, or flac"),
        (("opus", 16_000, 900), "expected Opus of 6,000 to 256,000 bits per second, got 900"),
        (("flac", 0), "expected a sample rate above 0 Hz, got 0"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(ValueError, match=message):
        Codec(*settings)


def test_chunks_are_what_read_gives_at_once(tmp_path):
    sound = _noise(100_003)
    soundfile.write(tmp_path / "a.wav", sound, 22_050, subtype="FLOAT")
    whole = audio.read(tmp_path / "a.wav", sample_rate=16_000)
    pieces = list(audio.chunks(tmp_path / "a.wav", sample_rate=16_000))
    assert len(pieces) > 1
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)
