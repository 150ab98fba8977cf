"""Reading sound: every format seeks exactly, every bad input is refused by name, and hours fit in little memory."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lapis import audio
from lapis.audio import AudioError, AudioWarning

RATE = 44100


def sweep(seconds: float, rate: int = RATE, channels: int = 2) -> np.ndarray:
    """A rising tone with noise: no two places sound alike. Of shape (samples, channels)."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal((len(time), channels))
    return (0.3 * np.sin(2 * np.pi * (200 + 60 * time) * time)[:, None] + 0.05 * noise).astype(np.float32)


def encode(path: Path, samples: np.ndarray, rate: int, codec: str, **options: str) -> Path:
    """Write what soundfile cannot, with PyAV."""
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    # These two are the container's options, the rest the encoder's.
    of_container = {key: options.pop(key) for key in ("write_xing", "movflags") if key in options}
    with av.open(str(path), "w", options=of_container) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout, options=options)
        convert = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 1024
        )
        whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        whole.sample_rate, whole.pts = rate, 0
        for frame in [*convert.resample(whole), *convert.resample(None), None]:
            file.mux(stream.encode(frame))
    return path


FORMATS = {
    "wav": lambda path: soundfile.write(path, sweep(4), RATE),
    "flac": lambda path: soundfile.write(path, sweep(4), RATE),
    "aiff": lambda path: soundfile.write(path, sweep(4), RATE),
    "ogg": lambda path: soundfile.write(path, sweep(4), RATE),
    "opus": lambda path: soundfile.write(path, sweep(4, 48000), 48000, format="OGG", subtype="OPUS"),
    "16k.opus": lambda path: soundfile.write(path, sweep(4, 16000), 16000, format="OGG", subtype="OPUS"),
    "mp3": lambda path: soundfile.write(path, sweep(4), RATE),
    "no-length.mp3": lambda path: encode(path, sweep(4), RATE, "libmp3lame", write_xing="0"),
    # Without noise substitution, which draws other noise each time the decoder starts.
    "m4a": lambda path: encode(path, sweep(4), RATE, "aac", aac_pns="0"),
    "mp4": lambda path: encode(path, sweep(4, 48000), 48000, "libopus"),
    "webm": lambda path: encode(path, sweep(4, 48000), 48000, "libopus"),
    "mka": lambda path: encode(path, sweep(4), RATE, "flac"),
    "aac": lambda path: encode(path, sweep(4), RATE, "aac"),
}
IN_CONTAINERS = {"m4a", "mp4", "webm", "mka", "aac"}


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sound")
    made = {name: folder / f"sweep.{name}" for name in FORMATS}
    for name, write in FORMATS.items():
        write(made[name])
    return made


@pytest.fixture(scope="session")
def wholes(files) -> dict[str, dict[int | None, np.ndarray]]:
    rates = (None, 16000, 48000)
    return {name: {rate: audio.read(path, sample_rate=rate) for rate in rates} for name, path in files.items()}


@pytest.mark.parametrize("name", FORMATS)
class TestFormats:
    @settings(
        max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(start=st.floats(0, 3.9), seconds=st.floats(0.01, 2), rate=st.sampled_from([None, None, 16000, 48000]))
    def test_segment_is_a_slice_of_the_whole(self, name, files, wholes, start, seconds, rate):
        own_rate = audio.info(files[name]).sample_rate
        in_hertz = rate or own_rate
        expected = wholes[name][rate][round(start * in_hertz) : round((start + seconds) * in_hertz)]
        got = audio.read(files[name], sample_rate=rate, start_seconds=start, seconds=seconds)
        assert len(got) == len(expected)
        tolerance = 1e-6 if in_hertz == own_rate else 1e-4
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)

    def test_the_last_samples_are_reached(self, name, files, wholes):
        own_rate = audio.info(files[name]).sample_rate
        whole = wholes[name][None]
        for back in (1, 700, 5000):
            got = audio.read(files[name], start_seconds=(len(whole) - back) / own_rate)
            np.testing.assert_allclose(got, whole[-back:], rtol=0, atol=1e-6)

    def test_content_reads_as_its_file(self, name, files, wholes):
        content = files[name].read_bytes()
        assert np.array_equal(audio.read(content), wholes[name][None])
        assert audio.info(content) == audio.info(files[name])

    def test_header_states_the_length_decoded(self, name, files, wholes):
        found = audio.info(files[name])
        frame_seconds = 0.05 if name in IN_CONTAINERS else 0.5 / found.sample_rate
        assert found.seconds == pytest.approx(len(wholes[name][None]) / found.sample_rate, abs=frame_seconds)
        assert found.seconds == pytest.approx(4, abs=0.06)
        assert found.channels == 2

    def test_sound_is_where_it_was(self, name, files, wholes):
        """The waveform lies on the original, neither late nor early (raw aac keeps its encoder's delay, unmarked)."""
        own_rate = audio.info(files[name]).sample_rate
        original, got = sweep(4, own_rate).mean(1), wholes[name][None]
        delay = {"aac": 1024, "no-length.mp3": 1105}.get(name, 0)
        length = min(len(original), len(got) - delay) - own_rate // 2
        assert np.corrcoef(original[:length], got[delay : delay + length])[0, 1] > 0.9

    @pytest.mark.parametrize("rate", [16000, None])
    def test_blocks_are_what_read_gives(self, name, files, wholes, rate):
        rate = rate or audio.info(files[name]).sample_rate
        whole = audio.read(files[name], sample_rate=rate)
        found = list(audio.blocks(files[name], sample_rate=rate, block_seconds=1.5, hop_seconds=0.7))
        expected = audio.windows(len(whole) / rate, window_seconds=1.5, hop_seconds=0.7)
        np.testing.assert_allclose([(block.start_seconds, block.end_seconds) for block in found], expected, atol=1e-4)
        for block in found:
            seconds = block.end_seconds - block.start_seconds
            got = audio.read(files[name], sample_rate=rate, start_seconds=block.start_seconds, seconds=seconds)
            np.testing.assert_allclose(block.waveform, got, rtol=0, atol=1e-4)


class TestWindows:
    def test_last_window_is_shorter(self):
        assert audio.windows(25, window_seconds=10, hop_seconds=10) == [(0, 10), (10, 20), (20, 25)]

    def test_windows_stop_at_the_first_that_reaches_the_end(self):
        assert audio.windows(15, window_seconds=10, hop_seconds=5) == [(0, 10), (5, 15)]

    def test_a_tail_under_a_tenth_of_a_second_is_dropped(self):
        assert audio.windows(20.05, window_seconds=10, hop_seconds=10) == [(0, 10), (10, 20)]

    def test_the_only_window_stays_however_short(self):
        assert audio.windows(0.01, window_seconds=10, hop_seconds=10) == [(0, 0.01)]

    @pytest.mark.parametrize("hop", [0, -1, 11])
    def test_an_impossible_hop_is_refused(self, hop):
        with pytest.raises(ValueError, match=f"hop of {hop}"):
            audio.windows(30, window_seconds=10, hop_seconds=hop)

    @settings(deadline=None)
    @given(st.floats(0.01, 100), st.floats(0.2, 30), st.floats(0.1, 1))
    def test_windows_cover_the_sound(self, total, window, hop_share):
        found = audio.windows(total, window_seconds=window, hop_seconds=window * hop_share)
        starts, ends = zip(*found)
        assert starts[0] == 0
        assert total - ends[-1] < audio.MINIMUM_SECONDS
        assert all(start < end for start, end in found)
        assert all(following <= end + 1e-9 for following, end in zip(starts[1:], ends))
        assert all(end - start == pytest.approx(window) for start, end in found[:-1])


class TestArrays:
    def test_channels_are_averaged(self):
        stereo = np.stack([np.full(100, 0.5), np.full(100, -0.1)], axis=1)
        np.testing.assert_allclose(audio.read(stereo), np.full(100, 0.2, np.float32), atol=1e-7)

    @pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16"])
    def test_integers_are_scaled_by_their_type(self, dtype):
        limits = np.iinfo(dtype)
        middle = (limits.max + limits.min + 1) // 2
        got = audio.read(np.array([limits.min, middle, limits.max], dtype))
        np.testing.assert_allclose(got, [-1, 0, 1], atol=0.01)

    def test_an_array_is_a_source_like_a_file(self, files):
        samples, rate = soundfile.read(files["wav"], dtype="int16")
        segment = {"sample_rate": 16000, "start_seconds": 1.3, "seconds": 0.7}
        np.testing.assert_array_equal(
            audio.read(samples, array_rate=rate, **segment), audio.read(files["wav"], **segment)
        )
        assert audio.info(samples, array_rate=rate).seconds == audio.info(files["wav"]).seconds

    def test_a_rate_is_needed_to_resample(self):
        with pytest.raises(AudioError, match="<array>: expected array_rate"):
            audio.read(np.zeros(100), sample_rate=16000)

    def test_a_file_takes_no_rate(self, files):
        with pytest.raises(AudioError, match="expected array_rate with an array only"):
            audio.read(files["wav"], array_rate=16000)

    @pytest.mark.parametrize("array", [np.zeros((2, 1000)), np.zeros((3, 3, 3)), np.zeros(9, complex), np.array(1.0)])
    def test_other_shapes_are_refused(self, array):
        with pytest.raises(AudioError, match=r"expected numbers of shape \(samples,\) or \(samples, channels\)"):
            audio.read(array)

    def test_the_array_is_left_alone(self):
        samples = np.ones(10, np.float32)
        audio.read(samples)[:] = 0
        assert samples.all()


class TestBadInput:
    def refused(self, path, *words: str) -> str:
        """All ways in refuse the source, by name."""
        for attempt in (audio.read, lambda source: list(audio.blocks(source, sample_rate=16000, block_seconds=1))):
            with pytest.raises(AudioError) as caught:
                attempt(path)
            message = str(caught.value)
            assert message.startswith(f"{'<bytes>' if isinstance(path, bytes) else path}: expected")
            assert all(word in message for word in words), message
        return message

    @pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a", "raw"])
    def test_empty_file(self, tmp_path, suffix):
        path = tmp_path / f"empty.{suffix}"
        path.touch()
        self.refused(path, "it is empty")
        self.refused(b"", "it is empty")

    @pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a", "raw"])
    def test_text_with_the_name_of_a_sound(self, tmp_path, suffix):
        path = tmp_path / f"letter.{suffix}"
        path.write_text("Dear all,\nplease find the sound attached.\n" * 40)
        self.refused(path, "begins b'Dear all,")
        with pytest.raises(AudioError, match="letter"):
            audio.info(path)

    @pytest.mark.parametrize(
        "list_of_files", ["ffconcat version 1.0\nfile 'sweep.wav'\n", "#EXTM3U\n#EXTINF:4,\nsweep.wav\n"]
    )
    def test_a_list_of_files_does_not_open_them(self, files, list_of_files):
        path = files["wav"].with_name("list.m4a")
        path.write_text(list_of_files)
        self.refused(path, "neither libsndfile nor FFmpeg can open")

    def test_header_without_samples(self, tmp_path):
        soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
        self.refused(tmp_path / "none.wav", "holds no samples")
        with pytest.raises(AudioError, match="holds no samples"):
            audio.info(tmp_path / "none.wav")

    def test_video_without_sound(self, tmp_path):
        with av.open(str(tmp_path / "mute.mp4"), "w") as file:
            stream = file.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 16
            stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            file.mux([*stream.encode(frame), *stream.encode(None)])
        self.refused(tmp_path / "mute.mp4", "holds no sound")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_no_numbers(self, tmp_path, value):
        samples = sweep(1, channels=1)
        samples[RATE // 2] = value
        soundfile.write(tmp_path / "broken.wav", samples, RATE, subtype="FLOAT")
        self.refused(tmp_path / "broken.wav", "NaN or infinity at 0.500 s")
        with pytest.raises(AudioError, match=r"<array>: .* NaN or infinity"):
            audio.read(samples)
        # Where only good samples are asked for, good samples come.
        assert len(audio.read(tmp_path / "broken.wav", seconds=0.4)) == round(0.4 * RATE)

    def test_missing_file_and_folder(self, tmp_path):
        self.refused(tmp_path / "nowhere.wav", "there is no file")
        self.refused(tmp_path, "cannot be opened: Is a directory")

    @pytest.mark.skipif(not hasattr(os, "setuid"), reason="no users on this system")
    def test_no_permission(self, tmp_path):
        path = tmp_path / "secret.wav"
        soundfile.write(path, sweep(0.1), RATE)
        path.chmod(0)
        # Root may read all, so a child gives that up after its imports, holding the folder open to find the file.
        program = (
            "import os, sys; from lapis import audio; os.chdir(sys.argv[1])\n"
            "if os.getuid() == 0: os.setuid(65534)\n"
            "try: audio.read('secret.wav')\n"
            "except audio.AudioError as error: print(error)\n"
        )
        tmp_path.chmod(0o755)
        ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
        assert ran.stdout == "secret.wav: expected a sound file, but this user has no permission to read it\n"

    @pytest.mark.parametrize(("start", "seconds"), [(-1, None), (float("nan"), None), (0, 0), (0, -1), (0, 1e-9)])
    def test_impossible_segments(self, files, start, seconds):
        with pytest.raises(AudioError, match=r"sweep.wav: expected (start_)?seconds"):
            audio.read(files["wav"], start_seconds=start, seconds=seconds)

    @pytest.mark.parametrize("name", FORMATS)
    def test_segment_past_the_end(self, files, name):
        with pytest.raises(AudioError, match=r"expected sound from 60\.0 s on"):
            audio.read(files[name], start_seconds=60.0, seconds=1)
        assert len(audio.read(files[name], start_seconds=3.0, seconds=60)) > 0

    def test_impossible_rate(self, files):
        with pytest.raises(AudioError, match=r"sweep.wav: expected a sample rate above 0"):
            audio.read(files["wav"], sample_rate=0)


class TestPlace:
    @pytest.mark.parametrize("name", FORMATS)
    def test_the_sound_is_the_same_wherever_it_is_put(self, files, name):
        place = np.full(RATE * 5, 7, np.float32)
        got = audio.read(files[name], place=place)
        assert np.array_equal(got, audio.read(files[name]))
        assert (place[len(got) :] == 7).all()

    def test_where_nothing_is_resampled_it_lies_there(self, files):
        place = np.zeros(RATE * 5, np.float32)
        assert np.shares_memory(audio.read(files["wav"], place=place), place)
        assert not np.shares_memory(audio.read(files["wav"], sample_rate=RATE // 2, place=place), place)
        segment = audio.read(files["wav"], start_seconds=1.5, seconds=1.0, place=place)
        assert np.shares_memory(segment, place)
        assert np.array_equal(segment, audio.read(files["wav"])[RATE * 3 // 2 : RATE * 5 // 2])

    def test_one_that_is_too_small_is_left_alone(self, files):
        place = np.full(RATE, 7, np.float32)
        assert len(audio.read(files["wav"], place=place)) == RATE * 4
        assert (place == 7).all()

    def test_a_file_of_several_stretches_is_read_whole(self, files, monkeypatch):
        whole = audio.read(files["flac"])
        monkeypatch.setattr(audio, "STRETCH_SAMPLES", 1000)
        assert np.array_equal(audio.read(files["flac"]), whole)


class TestTruncated:
    @pytest.mark.parametrize("name", ["mp3", "wav", "aiff"])
    def test_what_is_there_comes_with_a_warning(self, files, tmp_path, name):
        content = files[name].read_bytes()
        path = tmp_path / f"cut.{name}"
        path.write_bytes(content[: len(content) // 2])
        whole = audio.read(files[name])
        with pytest.warns(
            AudioWarning, match=rf"cut.{name}: its header promises 4\.0\d s, but only [12]\.\d+ s are there"
        ):
            got = audio.read(path)
        np.testing.assert_allclose(got[: RATE // 2], whole[: RATE // 2], atol=1e-6)
        with pytest.warns(AudioWarning):
            pieces = list(audio.blocks(path, sample_rate=RATE, block_seconds=0.5))
        assert np.array_equal(np.concatenate([piece.waveform for piece in pieces])[:RATE], got[:RATE])

    def test_so_does_what_comes_before_the_damage(self, files, tmp_path):
        whole = encode(tmp_path / "whole.m4a", sweep(4), RATE, "aac", movflags="faststart")
        for path in (whole, files["flac"]):
            content = path.read_bytes()
            with pytest.warns(AudioWarning, match=r"<bytes>: decoding breaks off after [12]\.\d+ s \("):
                got = audio.read(content[: len(content) // 2])
            assert np.array_equal(got, audio.read(path)[: len(got)])

    def test_so_does_what_a_long_read_had_decoded_before_the_damage(self, files):
        content = files["flac"].read_bytes()
        with pytest.warns(AudioWarning, match="decoding breaks off"):
            got = audio.read(content[: len(content) // 2])
        with pytest.warns(AudioWarning, match="decoding breaks off"):
            pieces = list(audio.chunks(content[: len(content) // 2], sample_rate=RATE))
        assert len(got) >= sum(map(len, pieces)) and len(got) > RATE

    def test_an_mp4_without_its_index_is_refused(self, files):
        with pytest.raises(AudioError, match="neither libsndfile nor FFmpeg"):
            audio.read(files["m4a"].read_bytes()[:20000])

    # A cut aiff makes libsndfile seek before the start; soundfile reports that on its way to the error.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("name", FORMATS)
    def test_a_header_alone_is_refused(self, files, name):
        with pytest.raises(AudioError, match="<bytes>: expected"):
            audio.read(files[name].read_bytes()[:30])

    def test_a_wav_written_to_a_pipe_does_not_warn(self, files):
        content = bytearray(files["wav"].read_bytes())
        content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(audio.read(bytes(content)), audio.read(files["wav"]))

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @settings(
        max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        name=st.sampled_from(sorted(FORMATS)), where=st.floats(0, 1), noise=st.binary(max_size=200), cut=st.booleans()
    )
    def test_damage_is_sound_or_an_audio_error(self, files, name, where, noise, cut):
        content = files[name].read_bytes()
        place = int(where * len(content))
        damaged = content[:place] + noise + (b"" if cut else content[place + len(noise) :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            try:
                got = audio.read(damaged, seconds=2.0)
            except AudioError as error:
                assert str(error).startswith("<bytes>: ")
            else:
                assert len(got) > 0
                assert np.isfinite(got).all()


class TestUnusual:
    def test_a_title_in_latin_1_is_no_reason_to_refuse_a_sound(self, tmp_path):
        path = encode(tmp_path / "old.mp3", sweep(2), RATE, "libmp3lame", write_xing="0")
        seconds = audio.info(path).seconds
        with path.open("ab") as file:  # ID3v1
            file.write(b"TAG" + b"M\xf6tley".ljust(124, b"\0") + b"\xff")
        assert audio.info(path).seconds == seconds

    def test_mp3_of_varying_rate_without_a_length_is_read_to_its_end(self, tmp_path):
        """Libsndfile guesses the length from the first frames, and stops there."""
        samples = sweep(10, channels=1)
        samples[RATE:] *= 0.001
        options = {"flags": "+qscale", "global_quality": "236", "write_xing": "0"}
        path = encode(tmp_path / "varying.mp3", samples, RATE, "libmp3lame", **options)
        assert soundfile.info(path).duration < 8
        assert len(audio.read(path)) / RATE == pytest.approx(10, abs=0.06)
        assert audio.info(path).seconds == len(audio.read(path)) / RATE

    def test_8_kilohertz_8_bit(self, tmp_path):
        samples = sweep(1, 8000, 1)
        soundfile.write(tmp_path / "phone.wav", samples, 8000, subtype="PCM_U8")
        got = audio.read(tmp_path / "phone.wav")
        np.testing.assert_allclose(got, samples[:, 0], atol=1 / 128)
        assert len(audio.read(tmp_path / "phone.wav", sample_rate=48000)) == 48000

    def test_192_kilohertz_6_channels(self, tmp_path):
        samples = sweep(1, 192000, 6)
        soundfile.write(tmp_path / "studio.wav", samples, 192000, subtype="FLOAT")
        assert audio.info(tmp_path / "studio.wav") == audio.AudioInfo(1.0, 192000, 6, "wav/float")
        np.testing.assert_allclose(audio.read(tmp_path / "studio.wav"), samples.mean(1), atol=1e-6)
        assert len(audio.read(tmp_path / "studio.wav", sample_rate=16000)) == 16000

    def test_huge_values(self, tmp_path):
        samples = np.full((1000, 6), 3e38, np.float32)
        soundfile.write(tmp_path / "loud.wav", samples, RATE, subtype="FLOAT")
        np.testing.assert_allclose(audio.read(tmp_path / "loud.wav"), 3e38, rtol=1e-6)
        assert np.isfinite(audio.read(samples / 1000, array_rate=RATE, sample_rate=16000)).all()

    @pytest.mark.parametrize("name", ["дождь на крыше 🌧.wav", "with space.m4a", "100%: a#b?.webm", "-"])
    def test_names(self, files, tmp_path, name, monkeypatch):
        monkeypatch.chdir(tmp_path)
        source = files.get(Path(name).suffix[1:], files["wav"])
        Path(name).write_bytes(source.read_bytes())
        assert np.array_equal(audio.read(name), audio.read(source))

    def test_the_name_does_not_matter(self, files, tmp_path):
        (tmp_path / "really.wav").write_bytes(files["m4a"].read_bytes())
        assert np.array_equal(audio.read(tmp_path / "really.wav"), audio.read(files["m4a"]))

    def test_one_sample(self, tmp_path):
        soundfile.write(tmp_path / "click.wav", np.ones(1) / 2, 48000)
        assert audio.read(tmp_path / "click.wav").tolist() == [0.5]
        with pytest.raises(AudioError, match="at 8000 Hz"):
            audio.read(tmp_path / "click.wav", sample_rate=8000)
        with pytest.raises(AudioError, match="at 8000 Hz"):
            list(audio.blocks(tmp_path / "click.wav", sample_rate=8000, block_seconds=1))

    def test_resample(self):
        tone = np.sin(2 * np.pi * 440 * np.arange(48000) / 48000).astype(np.float32)
        got = audio.resample(tone, from_rate=48000, to_rate=16000)
        np.testing.assert_allclose(got[500:-500], tone[::3][500:-500], atol=1e-4)
        assert audio.resample(tone, from_rate=48000, to_rate=48000) is tone


@pytest.mark.skipif(sys.platform == "win32", reason="measures with `resource`")
def test_three_hours_in_bounded_memory(tmp_path):
    path = tmp_path / "long.flac"
    minute = sweep(60, 8000, 1)
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(180):
            file.write(minute)
    program = (
        "import resource, sys; from lapis import audio\n"
        "unit = 1 if sys.platform == 'darwin' else 1024\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit\n"
        "audio.read(sys.argv[1], sample_rate=16000, seconds=10); before = peak()\n"
        "seconds = sum(b.end_seconds - b.start_seconds\n"
        "              for b in audio.blocks(sys.argv[1], sample_rate=16000, block_seconds=30))\n"
        "audio.read(sys.argv[1], sample_rate=16000, start_seconds=9000, seconds=30)\n"
        "print(seconds, peak() - before)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    seconds, extra_bytes = map(float, ran.stdout.split())
    assert seconds == 10800
    # All of it is 691 MB at 16 kHz.
    assert extra_bytes < 50e6


class TestFindAudio:
    def test_sorted_recursive_without_hidden_files(self, tmp_path):
        for name in ("b.wav", "a/c.FLAC", "a/.hidden.wav", ".cache/d.wav", "notes.txt", "дождь.m4a"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "folder.wav").mkdir()
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
        (tmp_path / "link.wav").symlink_to(tmp_path / "b.wav")
        found = [path.relative_to(tmp_path).as_posix() for path in audio.find_audio(tmp_path)]
        assert found == ["a/c.FLAC", "b.wav", "gone.wav", "link.wav", "дождь.m4a"]

    def test_a_folder_that_is_none(self, tmp_path):
        with pytest.raises(AudioError, match="there is none"):
            audio.find_audio(tmp_path / "nowhere")
        (tmp_path / "file.wav").touch()
        with pytest.raises(AudioError, match="this is a file"):
            audio.find_audio(tmp_path / "file.wav")

    def test_is_audio_path(self):
        assert audio.is_audio_path("a/b.WAV")
        assert not audio.is_audio_path(Path("wav"))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="a file in memory, which Linux has")
def test_no_ctrl_c_is_lost_while_bytes_are_decoded(files):
    """It would be within a function of Python that libsndfile calls: there is none."""
    called = set()
    for name in ("wav", "flac", "opus"):
        content = files[name].read_bytes()
        sys.setprofile(lambda frame, event, value: called.add(frame.f_code.co_name))
        try:
            audio.read(content, sample_rate=16_000)
        finally:
            sys.setprofile(None)
    assert "read" in called and not [name for name in called if name.startswith("vio_")]


def _read_without_ctrl_c(paths, sending):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    called = set()
    sys.setprofile(lambda frame, event, value: called.add(frame.f_code.co_name))
    sounds = [audio.read(path.read_bytes(), sample_rate=16_000) for path in paths]
    sys.setprofile(None)
    sending.send((sounds, sorted(called)))


def test_a_worker_that_leaves_ctrl_c_to_its_parent_reads_the_same_without_a_file(files):
    paths = [files[name] for name in ("wav", "flac", "opus")]
    expected = [audio.read(path.read_bytes(), sample_rate=16_000) for path in paths]
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    worker = context.Process(target=_read_without_ctrl_c, args=(paths, sending))
    worker.start()
    found, called = receiving.recv()
    worker.join()
    assert all(map(np.array_equal, found, expected)) and "vio_read" in called


def test_sigterm_is_heard_where_ctrl_c_is_ignored(files):
    """As of a command that a script started with &: what its handler raises must not end in libsndfile's reading."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    called = set()
    try:
        sys.setprofile(lambda frame, event, value: called.add(frame.f_code.co_name))
        audio.read(files["flac"].read_bytes(), sample_rate=16_000)
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, before)
    assert "read" in called and not [name for name in called if name.startswith("vio_")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_is_forked_while_threads_open_files_can_open_files(files):
    content = files["wav"].read_bytes()
    ended = threading.Event()

    def open_and_open() -> None:
        while not ended.is_set():
            audio.info(content)

    threads = [threading.Thread(target=open_and_open) for _ in range(3)]
    for thread in threads:
        thread.start()
    statuses = []
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                signal.alarm(10)  # it would wait for ever
                audio.info(content)
                os._exit(0)
            statuses.append(os.waitpid(child, 0)[1])
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {0}


def test_importing_does_not_import_torch():
    subprocess.run([sys.executable, "-c", "import sys, lapis.audio; assert 'torch' not in sys.modules"], check=True)


def test_a_sample_dump_is_refused_before_libsndfile_prints_what_it_thinks_of_it(tmp_path, capfd):
    soundfile.write(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 400), RATE, format="SDS")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[276] ^= 0x55  # Of this libsndfile says "Error 1 : ..." on the standard output.
    for source in (bytes(content), tmp_path / "a.wav"):
        with pytest.raises(AudioError, match="this is a MIDI sample dump"):
            audio.read(source)
    assert capfd.readouterr().out == ""
