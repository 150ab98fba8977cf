"""What a step of all processes was, as one line: losses, speeds, and what the time went by on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lapis import distributed
from lapis.data.batching import READING, Batch, Dropped
from lapis.train.step import Taken


@dataclass(frozen=True)
class Line:
    """A step of all processes: losses are means over them, clips and tokens sums, seconds of the slowest one.

    `wait_seconds` of `step_seconds` went by waiting for data, `exchange_seconds` waiting for other processes' gradients
    after the own ones were there. `speed_share` is of the device's measured matrix speed (MFU).
    """

    total: float
    losses: Mapping[str, float]
    measures: Mapping[str, float]
    learning_rate: float
    gradient_norm: float
    clips: int
    audio_seconds: float
    tokens: int
    dropped: tuple[Dropped, ...]
    wait_seconds: float
    exchange_seconds: float
    step_seconds: float
    speed_share: float | None
    reading: Mapping[str, float]
    """Seconds that all processes' workers spent on the step's batches, by `READING`."""
    stop: bool
    """Whether somebody asked one of the processes to stop."""

    @property
    def bottleneck(self) -> str:
        """What most of the step's time went by on: data, computing, or the exchange between processes."""
        computing = self.step_seconds - self.wait_seconds - self.exchange_seconds
        parts = {"data": self.wait_seconds, "computing": computing, "exchange": self.exchange_seconds}
        return max(parts, key=lambda name: parts[name])

    @property
    def data_bottleneck(self) -> str:
        """What most of the reading went by on."""
        return max(self.reading, key=lambda name: self.reading[name])

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `log.jsonl`."""
        return {
            "total": self.total,
            "losses": dict(self.losses),
            **({"measures": dict(self.measures)} if self.measures else {}),
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm if math.isfinite(self.gradient_norm) else None,
            "clips": self.clips,
            "audio_seconds": round(self.audio_seconds, 3),
            "tokens": self.tokens,
            "dropped": len(self.dropped),
            "wait_seconds": round(self.wait_seconds, 4),
            "exchange_seconds": round(self.exchange_seconds, 4),
            "step_seconds": round(self.step_seconds, 4),
            "reading": {name: round(seconds, 4) for name, seconds in self.reading.items()},
            **self.speeds(),
        }

    def speeds(self) -> dict[str, Any]:
        """Clips, seconds of sound and tokens a second, and the share of the device's speed where it is known."""
        rates = {
            "clips_per_second": self.clips / self.step_seconds,
            "audio_seconds_per_second": self.audio_seconds / self.step_seconds,
            "tokens_per_second": self.tokens / self.step_seconds,
        }
        known = {} if self.speed_share is None else {"speed_share": round(self.speed_share, 5)}
        told = {"bottleneck": self.bottleneck}
        if self.bottleneck == "data":
            told["data_bottleneck"] = self.data_bottleneck
        return {name: round(rate, 2) for name, rate in rates.items()} | known | told


def together(
    batches: Sequence[Batch],
    *,
    taken: Taken,
    sample_rate: int,
    tokens: int,
    learning_rate: float,
    wait_seconds: float,
    exchange_seconds: float,
    step_seconds: float,
    speed_share: float | None,
    stop: bool,
) -> Line:
    """The line of a step from what each process says of its own part; one exchange of a few numbers."""
    dropped = [drop for batch in batches for drop in batch.dropped]
    named = [*taken.losses.values(), *taken.measures.values()]
    samples = sum(len(batch.waveforms.rows) for batch in batches)
    reading = [sum(batch.spent.get(name, 0.0) for batch in batches) for name in READING]
    sums = [sum(map(len, batches)), samples / sample_rate, tokens, len(dropped), stop, *reading]
    most = [wait_seconds, exchange_seconds, step_seconds]
    means = [taken.total, speed_share or 0.0, *named]
    rows = distributed.gather_numbers([float(number) for number in (*sums, *most, *means)])
    columns = list(zip(*rows, strict=True))
    clips, audio_seconds, all_tokens, all_dropped, stops, *spent = (sum(column) for column in columns[: len(sums)])
    waits, exchanges, steps = columns[len(sums) : len(sums) + len(most)]
    total, share, *named = (sum(column) / len(rows) for column in columns[len(sums) + len(most) :])
    return Line(
        total=total,
        losses=dict(zip(taken.losses, named)),
        measures=dict(zip(taken.measures, named[len(taken.losses) :], strict=True)),
        learning_rate=learning_rate,
        gradient_norm=taken.gradient_norm,
        clips=round(clips),
        audio_seconds=audio_seconds,
        tokens=round(all_tokens),
        dropped=tuple(drop for of in distributed.gather_values(dropped) for drop in of) if all_dropped else (),
        wait_seconds=max(waits),
        exchange_seconds=min(exchanges),  # the slowest to compute waits for nobody: what is left is the exchange
        step_seconds=max(steps),
        speed_share=None if speed_share is None else share,
        reading=dict(zip(READING, spent, strict=True)),
        stop=stops > 0,
    )
