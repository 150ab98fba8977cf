"""What is known of a clip, from the JSON of a shard or the row of a table, as a `Sample`."""

import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any

from lapis.data.sample import Openable, Sample


def parse_object(content: bytes, *, name: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is not JSON in UTF-8, or no object.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected an object, got {type(value).__name__}")
    return value


def make_sample(values: Mapping[str, Any], *, key: str, audio: Openable, where: str) -> Sample:
    """A sample of named values; names that mean nothing to it are left aside.

    Raises:
        ValueError: captions are not texts by language, seconds no number above zero, or another value is none.
    """
    captions = values.get("captions") or {}
    if not isinstance(captions, Mapping):
        raise ValueError(f"{where}: expected captions by language, got {type(captions).__name__}")
    seconds = known_seconds(values, where=where)
    if isinstance(labels := values.get("label"), list):
        told = [known_text({"label": label}, "label", where=where) for label in labels]
        values = {**values, "label": ";".join(label for label in told if label is not None)}
    return Sample(
        key=key,
        audio=audio,
        captions={
            language: _texts(texts, where=f"{where}, {language}")
            for language, texts in captions.items()
            if texts is not None
        },
        seconds=seconds,
        **{
            name: known_text(values, name, where=where)
            for name in (
                "label",
                "domain",
                "language",
                "transcript",
                "speaker",
                "source",
                "source_id",
                "licence",
                "split",
            )
        },
    )


def known_seconds(values: Mapping[str, Any], *, where: str) -> float | None:
    """The duration, where it is given.

    Raises:
        ValueError: it is no number above zero.
    """
    seconds = values.get("seconds")
    try:
        duration = None if seconds in (None, "") else float(seconds)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: expected seconds as a number, got {_short(seconds)}") from error
    if duration is not None and not 0 < duration < math.inf:
        raise ValueError(f"{where}: expected seconds as a number above zero, got {seconds!r}")
    return duration


def known_text(values: Mapping[str, Any], name: str, *, where: str) -> str | None:
    """A value as text, where it is given; numbers are texts too.

    Raises:
        ValueError: it is no single value, or not a number.
    """
    value = values.get(name)
    if value is None or type(value) is str:
        return value or None
    if value == "":
        return None
    if isinstance(value, Mapping | list | tuple | bytes) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where}: expected {name} as a text, got {_short(value)}")
    return str(value)


def _texts(texts: Any, *, where: str) -> tuple[str, ...]:
    """One text or several, as several."""
    several = [texts] if isinstance(texts, str) else texts
    if not isinstance(several, list | tuple) or not all(text is None or isinstance(text, str) for text in several):
        raise ValueError(f"{where}: expected a caption, or a list of captions, got {_short(texts)}")
    return tuple(text or "" for text in several)


def _short(value: Any) -> str:
    """What came, for a message."""
    try:
        return reprlib.repr(value)
    except ValueError:  # of so many digits that Python does not write them
        return f"{type(value).__name__} of thousands of digits"
