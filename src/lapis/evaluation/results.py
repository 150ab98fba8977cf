"""What one run of a suite measured, with all that a later reader asks: of which model, on which clips, by which
protocol, with what figures, item by item.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from lapis import __version__
from lapis.data.sample import Location, Sample
from lapis.evaluation.figure import Figure, Result
from lapis.values import check_choice

Training = Literal["given", "partly given", "never given", "unknown"]
"""Whether training has heard or read a benchmark's languages: all, some or none of them."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One benchmark of a run.

    Raises:
        ValueError: a figure or an item is not a finite number, items have no figure or are not those whose mean it is,
            or groups are not those of items.
    """

    protocol: str
    """What was measured, in words that are the same for every model."""
    figures: Mapping[str, Figure]
    data_checksum: str
    """Of the clips that were measured, see `data_checksum`."""
    num_clips: int
    items: Mapping[str, Float[np.ndarray, "_items"]] = field(default_factory=dict)
    """What each query or clip contributes to the figure of the same name, which is their mean."""
    groups: Mapping[str, Int[np.ndarray, "_items"]] = field(default_factory=dict)
    """The number of the clip an item belongs to, where several belong to one."""
    seconds: float | None = None
    """It took, without the embedding if that is shared."""
    domain: str | None = None
    """One of sound, music, speech; None where the clips are of several or it is not known."""
    languages: tuple[str, ...] = ()
    languages_in_training: Training = "unknown"
    prompts: Any = None
    """As plain values; None where the protocol has none."""
    seeds: tuple[int, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Clips, `key: reason`."""
    chosen: str = ""
    """In words, what is the model's own: which layer was the best, say, or how its calibration was fitted."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else the protocol's result tells, as plain values: a confusion, say."""

    def __post_init__(self) -> None:
        check_choice(self.languages_in_training, Training, name="languages_in_training")
        for name, figure in self.figures.items():
            known = (figure.value, figure.chance or 0.0, *(figure.interval or ()))
            if not np.isfinite(known).all():
                raise ValueError(f"figure {name!r} is not a finite number: {figure}")
        for name, items in self.items.items():
            if name not in self.figures:
                raise ValueError(f"items {name!r} have no figure of their name")
            mean, value = float(items.mean()) if len(items) else np.nan, self.figures[name].value
            if not np.isclose(mean, value, rtol=1e-6, atol=1e-9):
                raise ValueError(f"figure {name!r} is {value}, and the mean of its {len(items)} items {mean}")
        for name, groups in self.groups.items():
            if name not in self.items or len(groups) != len(self.items[name]):
                raise ValueError(f"groups {name!r} are not those of as many items")

    @classmethod
    def of(cls, result: Result, *, clips: Sequence[Sample], seconds: float | None = None, **further: Any) -> "Measured":
        """From a protocol's result and the clips it was measured on.

        Args:
            result: of the protocol; its `groups`, `seeds`, `prompts` and `chosen` are taken where it has them.
            clips: those that were measured; the unreadable ones may be among them or not, but the same way each time.
            seconds: it took.
            further: other fields of `Measured`.
        """
        values = _plain(result.to_dict())
        domains = {clip.domain for clip in clips}
        known = {
            "prompts": values.get("prompts"),
            "seeds": tuple(values.get("seeds") or ()),
            "unreadable": tuple(values.get("unreadable") or ()),
            "domain": domains.pop() if len(domains) == 1 else None,
            "groups": dict(getattr(result, "groups", None) or {}),
            "chosen": str(getattr(result, "chosen", "")),
        }
        elsewhere = {"figures", "items", "groups", "protocol", "chosen", "prompts", "seeds", "unreadable"}
        return cls(
            protocol=result.protocol,
            figures=dict(result.figures),
            items={name: np.asarray(items, np.float64) for name, items in result.items.items()},
            data_checksum=data_checksum(clips),
            num_clips=len(clips),
            seconds=seconds,
            details={name: value for name, value in values.items() if name not in elsewhere},
            **(known | further),
        )


@dataclass(frozen=True, eq=False)
class RunResults:
    """A model on a suite."""

    model: str
    """As it was asked for."""
    identity: str
    """Names the weights and all that decides an answer."""
    suite: str
    benchmarks: Mapping[str, Measured]
    """By name, whose last number is the benchmark's version."""
    started: str = ""
    """In UTC, as ISO 8601."""
    seconds: float | None = None
    """The whole run took."""
    surroundings: Mapping[str, str] = field(default_factory=dict)
    """Hardware and software by name, see `surroundings`."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Benchmarks of the suite that were not measured, and why."""

    @property
    def title(self) -> str:
        """What tables call the model: a path's last two parts, or the whole name."""
        return "/".join(Path(self.model).parts[-2:]) or self.identity


def surroundings(*, device: str = "cpu") -> dict[str, str]:
    """On what a run runs: processor, cores, memory, GPU, and the versions that decide a number."""
    import torch

    info = Path("/proc/cpuinfo")
    names = info.read_text(errors="replace").splitlines() if info.exists() else []
    processor = next((line.split(":", 1)[1].strip() for line in names if line.startswith("model name")), "")
    told = {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "processor": processor or platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        told["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    versions = {"lapis": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
    return told | versions | {"python": platform.python_version(), "system": sys.platform}


def data_checksum(clips: Sequence[Sample]) -> str:
    """The SHA-256 over what decides a figure of each clip, in their order, without reading a sound.

    A clip's key, label, captions, transcript, language, and the bytes its sound takes on disk (its seconds, where the
    sound is no file or member of an archive). Paths are left out: the same data elsewhere have the same checksum.
    """
    digest = hashlib.sha256()
    for clip in clips:
        captions = {language: list(texts) for language, texts in clip.captions.items()}
        told = [clip.key, clip.label, captions, clip.transcript, clip.language, _size(clip)]
        digest.update(json.dumps(told, ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _size(clip: Sample) -> int | float | str | None:
    """In bytes, or seconds; a file that is away is told apart from one of any size."""
    place = clip.audio
    if not isinstance(place, Location):
        return clip.seconds if clip.seconds is not None else getattr(place, "seconds", None)
    if place.size is not None:
        return place.size
    return place.path.stat().st_size if place.path.exists() else "away"


def _plain(value: Any) -> Any:
    """As JSON knows it: tuples and arrays as lists, numpy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value
