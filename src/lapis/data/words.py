"""What is known of a clip, from the JSON of a shard or the row of a table, as a `Sample`."""

import json
import math
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
    except ValueError as error:
        raise ValueError(f"{name} is not JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected an object, got {type(value).__name__}")
    return value


def make_sample(values: Mapping[str, Any], *, key: str, audio: Openable, where: str) -> Sample:
    """A sample of named values; names that mean nothing to it are left aside.

    Raises:
        ValueError: captions are not by language, or seconds no number above zero.
    """
    captions = values.get("captions") or {}
    if not isinstance(captions, Mapping):
        raise ValueError(f"{where}: expected captions by language, got {type(captions).__name__}")
    seconds = known_seconds(values, where=where)
    if isinstance(values.get("label"), list):
        values = {**values, "label": ";".join(map(str, values["label"]))}
    return Sample(
        key=key,
        audio=audio,
        captions={language: _texts(texts) for language, texts in captions.items() if texts is not None},
        seconds=seconds,
        **{
            name: str(values[name]) if values.get(name) not in (None, "") else None
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
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected seconds as a number, got {seconds!r}") from error
    if duration is not None and not 0 < duration < math.inf:
        raise ValueError(f"{where}: expected seconds as a number above zero, got {seconds!r}")
    return duration


def _texts(texts: Any) -> tuple[str, ...]:
    """One text or several, as several."""
    return tuple(str(text or "") for text in ([texts] if isinstance(texts, str) else texts))
