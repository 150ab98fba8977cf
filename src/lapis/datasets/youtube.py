"""Clips of YouTube: what their files are called (everybody's downloader has names of its own), and their samples."""

import re

from lapis.data.sample import Location, Sample

_ADDRESS = re.compile(r"(?:youtube\.com/watch\?v=|youtu\.be/)([\w-]{11})")


def names(
    video: str, start_seconds: float | None = None, end_seconds: float | None = None, *, alone: bool = True
) -> list[str]:
    """Names that a clip's file may have, without the suffix.

    `Y` before the id is the habit of the PANNs copy of AudioSet, six digits behind it that of VGGSound.

    Args:
        video: the id.
        start_seconds: where the clip begins.
        end_seconds: where it ends.
        alone: whether a video has one clip in the corpus, as in AudioSet, so that the id will do.
    """
    found = []
    if start_seconds is not None:
        start = round(start_seconds)
        if end_seconds is not None:
            end = round(end_seconds)
            found += [f"{video}_{start}_{end}", f"{video}_{1000 * start}_{1000 * end}", f"[{video}]-[{start}-{end}]"]
            found += [f"{video}_{start:.3f}_{end:.3f}"]
        found += [f"{video}_{start:06d}", f"{video}_{start}", f"{video}_{1000 * start}"]
    return [f"{prefix}{name}" for name in (*found, *([video] if alone else [])) for prefix in ("", "Y")]


def video_in(address: str) -> str | None:
    """The id in the address of a video; None where it is no such address."""
    found = _ADDRESS.search(address)
    return found[1] if found else None


def captioned(clip: str, *, video: str, audio: Location, caption: str, split: str) -> Sample:
    """The sample of a clip of a video that one English caption describes.

    Args:
        clip: its name in the corpus.
        video: the id.
        audio: its file.
        caption: what is heard.
        split: of the corpus.
    """
    return Sample(
        key=clip,
        audio=audio,
        captions={"eng_Latn": (caption,)},
        domain="sound",
        source=f"youtube:{video}",
        split=split,
    )
