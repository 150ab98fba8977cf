"""Small corpora made on the spot: tones and noises with captions, as tars, as tables, as Hugging Face folders."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16_000


def sound_bytes(seconds: float, *, hertz: float = 440.0, format: str = "FLAC") -> bytes:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * hertz * time), SAMPLE_RATE, format=format)
    return buffer.getvalue()


def write_tar(path: Path, samples: dict[str, tuple[bytes, dict]]) -> Path:
    """A WebDataset tar; `samples` maps a key to a sound and its words."""
    with tarfile.open(path, "w") as tar:
        for key, (sound, words) in samples.items():
            for suffix, content in (("flac", sound), ("json", json.dumps(words, ensure_ascii=False).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def tones(count: int, *, seconds: float = 0.3, name: str = "clip") -> dict[str, tuple[bytes, dict]]:
    return {
        f"{name}{number:03d}": (
            sound_bytes(seconds + 0.01 * number, hertz=200.0 + 50 * number),
            {
                "captions": {
                    "eng_Latn": [f"tone {number}", f"the tone number {number}"],
                    "deu_Latn": [f"Ton {number}"],
                },
                "label": f"tone {number % 3}",
                "domain": "music" if number % 2 else "sound",
                "seconds": seconds + 0.01 * number,
                "licence": "CC0-1.0",
            },
        )
        for number in range(count)
    }
