"""What storing sound in a format costs: megabytes an hour, and processor time to read it at a model's rate.

Real clips of the pocket corpus, or of other tars, are brought to each rate, written, and read again. The limit beside
them is the same sound as plain numbers, which needs no decoding: its row says what reading costs at least.
"""

import argparse
import io
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from lapis import audio
from lapis.data.encoding import Codec
from lapis.data.sources import Tars
from lapis.shapes import Waveform

ROOT = Path(__file__).parent.parent
SOURCE_HERTZ = 48_000
CLIP_SECONDS = 10.0


@dataclass(frozen=True)
class Row:
    """Of one format at one rate. Audio seconds are per second of processor time of one core."""

    format: str
    hertz: int
    megabytes_an_hour: float
    read_audio_seconds: float
    read_at_model_rate_audio_seconds: float
    written_audio_seconds: float


def opus(waveform: Waveform, hertz: int) -> bytes:
    return Codec("opus", hertz, bits_per_second=32_000 if hertz < SOURCE_HERTZ else 64_000).encode([waveform])[0]


def flac(waveform: Waveform, hertz: int) -> bytes:
    return Codec("flac", hertz).encode([waveform])[0]


def wav(waveform: Waveform, hertz: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, hertz, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def processor_seconds(job: Callable[[], object]) -> float:
    """Of this process, so that what else runs on the machine counts little."""
    began = time.process_time()
    job()
    return time.process_time() - began


def measure(clips: list[Waveform], *, write: Callable[[Waveform, int], bytes], hertz: int, model_hertz: int) -> Row:
    resampled = [soxr.resample(clip, SOURCE_HERTZ, hertz).astype(np.float32) for clip in clips]
    files: list[bytes] = []
    written = processor_seconds(lambda: files.extend(write(clip, hertz) for clip in resampled))
    seconds = CLIP_SECONDS * len(clips)

    def read(at: int) -> float:
        takes = [processor_seconds(lambda: [audio.read(file, sample_rate=at) for file in files]) for _ in range(3)]
        return seconds / statistics.median(takes)

    return Row(
        format=write.__name__,
        hertz=hertz,
        megabytes_an_hour=sum(map(len, files)) / seconds * 3600 / 1e6,
        read_audio_seconds=read(hertz),
        read_at_model_rate_audio_seconds=read(model_hertz),
        written_audio_seconds=seconds / written,
    )


def clips_of(data: Path, pattern: str, *, count: int) -> list[Waveform]:
    """Clips of ten seconds, cut from what random samples are when played one after another."""
    os.environ["LAPIS_DATA"] = str(data)
    samples = Tars(pattern).build()
    joined, wanted = [], round(count * CLIP_SECONDS * SOURCE_HERTZ)
    for place in np.random.default_rng(0).permutation(len(samples)):
        joined.append(audio.read(samples[int(place)].audio.open(), sample_rate=SOURCE_HERTZ))
        if sum(map(len, joined)) >= wanted:
            break
    whole = np.concatenate(joined)
    size = round(CLIP_SECONDS * SOURCE_HERTZ)
    return [whole[start : start + size] for start in range(0, min(len(whole), wanted) - size + 1, size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few clips")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="folder with tars")
    parser.add_argument("--pattern", default="pocket/pocket-train-*.tar", help="which tars of it")
    parser.add_argument("--clips", type=int, default=60, help="of ten seconds")
    parser.add_argument("--model-hertz", type=int, default=16_000, help="rate at which a model hears")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()

    clips = clips_of(options.data, options.pattern, count=2 if options.quick else options.clips)
    print(f"{len(clips)} clips of {CLIP_SECONDS:g} s; audio seconds per second of one core")
    print(
        f"{'format':6} {'hertz':>6} {'MB/h':>7} {'read':>8} {'read at ' + str(options.model_hertz):>14} {'written':>8}"
    )
    rows = []
    for hertz in (16_000, SOURCE_HERTZ):
        for write in (opus, flac, wav):
            row = measure(clips, write=write, hertz=hertz, model_hertz=options.model_hertz)
            rows.append(asdict(row))
            print(
                f"{row.format:6} {row.hertz:6} {row.megabytes_an_hour:7.1f} {row.read_audio_seconds:8,.0f} "
                f"{row.read_at_model_rate_audio_seconds:14,.0f} {row.written_audio_seconds:8,.0f}"
            )
    if options.out:
        options.out.write_text(json.dumps({"clips": len(clips), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
