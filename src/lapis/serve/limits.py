"""How much a server takes: of one request, of one client, and of all together. Memory is bounded by these."""

import gc
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields

from lapis.serve.refusal import Refusal

CLIENTS_REMEMBERED = 10_000
COLLECT_SECONDS = 10.0


@dataclass(frozen=True)
class Limits:
    """What one server takes.

    Raises:
        ValueError: a limit is not above zero, or not finite.
    """

    body_bytes: int = 32 << 20
    """Of one request."""
    sound_seconds: float = 600.0
    """Of all sounds of one request."""
    inputs: int = 256
    """Texts, labels and sounds of one request."""
    text_characters: int = 4096
    results: int = 100
    requests_at_once: int = 64
    """Being answered; one more is told to come again."""
    requests_a_minute: int = 600
    """Of one key, or of one address where there are no keys."""
    held_bytes: int = 256 << 20
    """Of all bodies that are being sent or answered."""
    held_seconds: float = 3600.0
    """Of all decoded sound in memory: 3600 s are 230 MB at 16 kHz."""
    upload_seconds: float = 30.0
    """Until a whole body must have come."""
    answer_seconds: float = 60.0
    """From the whole body to the whole answer."""
    header_seconds: float = 10.0
    """Until the head of a request must have come."""
    drain_seconds: float = 60.0
    """For what is begun when the server is told to stop."""
    connections: int = 512
    batch_texts: int = 64
    batch_seconds: float = 120.0
    """Of sound that goes through the tower at once."""

    def __post_init__(self) -> None:
        for of in fields(self):
            if not 0 < getattr(self, of.name) < math.inf:
                raise ValueError(f"{of.name} must be above zero and finite, got {getattr(self, of.name)}")


class Budget:
    """So much of something is there for all requests together. Threads may take and give."""

    def __init__(self, total: float) -> None:
        self.total, self.taken = total, 0.0
        self._collected = time.monotonic()
        self._lock = threading.RLock()  # a sound may be let go of, and give, at any place

    def take(self, amount: float) -> None:
        """Take so much.

        Raises:
            Refusal: others have it; come again.
        """
        with self._lock:
            if self.taken + amount > self.total:
                self._collect()
            if self.taken + amount > self.total:
                raise Refusal(429, "the server holds as much as it can: come again", "memory", retry_seconds=1.0)
            self.taken += amount

    def give(self, amount: float) -> None:
        """Give back what was taken."""
        with self._lock:
            rest = self.taken - amount
            self.taken = rest if rest > 1e-6 else 0.0  # sums of floats leave a little

    def _collect(self) -> None:
        """Let go of what only waits to be collected, now and then."""
        if time.monotonic() - self._collected > COLLECT_SECONDS:
            gc.collect()
            self._collected = time.monotonic()


class Rate:
    """A bucket of requests for each client, filled evenly; the clients seen longest ago are forgotten first."""

    def __init__(self, requests_a_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.burst = float(requests_a_minute)
        self.a_second = requests_a_minute / 60
        self.clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, client: str) -> None:
        """One more request of a client.

        Raises:
            Refusal: it has sent too many; in how long there is room is told.
        """
        now = self.clock()
        left, at = self._buckets.pop(client, (self.burst, now))
        left = min(self.burst, left + (now - at) * self.a_second)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > CLIENTS_REMEMBERED:
            self._buckets.popitem(last=False)
        if left < 1:
            raise Refusal(
                429,
                f"more than {self.burst:.0f} requests a minute came from this client",
                "rate",
                retry_seconds=(1 - left) / self.a_second,
            )
