"""The server under load: many clients at once, most of them hostile or broken, and what they cost the good ones.

The server is a process of its own on loopback. Good clients ask for vectors of texts and sounds and are held to what
the library gives; who is told to come again does so when it is told to. Beside them others send bodies over the limit,
bytes that are no JSON, cut files, uploads that break off, and heads and bodies that never end. Then good clients alone
ask a server that lets requests go through the tower together, and one that lets each go alone, in turns.
"""

import argparse
import asyncio
import base64
import io
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

import lapis
from lapis.audio_encoders.slap import Slap
from lapis.model import Embedder, JointModel
from lapis.serve.keys import Keys
from lapis.serve.limits import Limits
from lapis.serve.running import serve
from lapis.serve.service import Service

SHARES = {"text": 6, "sound": 4, "oversized": 2, "no JSON": 2, "cut": 2, "aborted": 1, "slow head": 1, "slow body": 1}
SHARES |= {"no HTTP": 1}
"""Of twenty clients."""
BODY_BYTES = 1 << 20
PLACES = re.compile(rb"/tmp|/root|/home|\.py\b|Traceback")
ALONE = {"batch_texts": 1, "batch_seconds": 0.001}


class Bytes(nn.Module):
    """A text tower for who gives no model: the mean of a row a byte."""

    @dataclass(frozen=True)
    class Config:
        """Nothing to choose."""

        def build(self) -> "Bytes":
            """With random weights."""
            return Bytes()

    def __init__(self) -> None:
        super().__init__()
        self.config, self.width, self.identity = Bytes.Config(), 64, "bytes"
        self.rows = nn.Embedding(256, 64)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """(texts, width)."""
        return torch.stack([self.rows(torch.tensor(list(text.encode()))).mean(0) for text in texts])


def embedder_of(model: str) -> Embedder:
    """A model by its name, or a small one that has learned nothing."""
    if model:
        return lapis.load(model)
    torch.manual_seed(0)
    return JointModel.Config(
        audio=Slap.Config(width=64, depth=2, heads=2, hidden=96), text=Bytes.Config(), width=64
    ).build()


@dataclass
class Server:
    """A server process."""

    process: "subprocess.Popen[str]"
    port: int

    def megabytes(self, what: str = "VmRSS") -> float:
        """Of memory now, or at its peak (VmHWM)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


@contextmanager
def running(model: str, limits: dict[str, float]) -> Iterator[Server]:
    """A server of a model, until the block ends; then it must end well."""
    command = [sys.executable, __file__, "--serve", json.dumps(limits), "--model", model]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next((line for line in process.stderr if " on http://" in line), "")
        if not line:
            raise RuntimeError("the server did not begin")
        try:
            yield Server(process, int(line.rsplit(":", 1)[1]))
        finally:
            process.terminate()
            rest = process.stderr.read()
    if process.returncode or "Traceback" in rest:
        raise RuntimeError(f"the server ended with {process.returncode}: {rest}")


@dataclass
class Seen:
    """What clients of all kinds saw."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of good requests, from the first attempt to the vector."""
    unequal: int = 0
    told_places: int = 0


@dataclass
class Clients:
    """Those who ask one server."""

    port: int
    embedder: Embedder
    texts: list[str]
    sounds: list[np.ndarray]
    seen: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        self.text_vectors = self.embedder.embed_text(self.texts)
        self.sound_vectors = self.embedder.embed_audio(self.sounds)
        self.wavs = [_wav(sound, self.embedder.sample_rate) for sound in self.sounds]

    async def ask(self, kind: str, number: int) -> None:
        """One request of a kind; a slow one lasts until the server has enough of it."""
        if kind == "text":
            place = number % len(self.texts)
            await self._good(kind, _body(self.texts[place]), self.text_vectors[place])
        elif kind == "sound":
            place = number % len(self.wavs)
            await self._good(kind, _body(_address(self.wavs[place])), self.sound_vectors[place])
        else:
            status, said = await self._bad(kind, number)
            self._note(kind, status, said)

    async def _good(self, kind: str, body: bytes, wanted: np.ndarray) -> None:
        began = time.perf_counter()
        while True:
            status, said = await self._send(_head(len(body)) + body)
            self._note(kind, status, said)
            if status != 429:
                break
            found = re.search(rb"retry-after: (\d+)", said)
            await asyncio.sleep(float(found[1]) if found else 1.0)
        self.seen.seconds.append(time.perf_counter() - began)
        if status == 200:
            vector = json.loads(said.partition(b"\r\n\r\n")[2])["data"][0]["embedding"]
            self.seen.unequal += not np.allclose(vector, wanted, atol=1e-4)

    async def _bad(self, kind: str, number: int) -> tuple[int, bytes]:
        noise, wav = np.random.default_rng(number).bytes(1000), self.wavs[number % len(self.wavs)]
        cut = _body(_address(wav[: len(wav) // 2]))
        content, more = {
            "oversized": (_head(BODY_BYTES + 1) + b" " * (BODY_BYTES + 1), b""),
            "no JSON": (_head(len(noise)) + noise, b""),
            "cut": (_head(len(cut)) + cut, b""),
            "no HTTP": (noise + b"\r\n\r\n", b""),
            "aborted": (_head(100_000) + b"{" * 50_000, b""),
            "slow head": (_head(100)[:-4], b"\r\nX: y"),
            "slow body": (_head(100), b" "),
        }[kind]
        return await self._send(content, more=more, answer=kind != "aborted")

    async def _send(self, content: bytes, *, more: bytes = b"", answer: bool = True) -> tuple[int, bytes]:
        """The status, 0 where the connection ended without one, and all that was said."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        dripping = asyncio.create_task(_drip(writer, more)) if more else None
        said = b""
        try:
            writer.write(content)
            await writer.drain()
            if answer:
                said = await asyncio.wait_for(reader.read(), 120)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            if dripping is not None:
                dripping.cancel()
            writer.transport.abort()
        return int(said[9:12]) if said.startswith(b"HTTP/1.1 ") else 0, said

    def _note(self, kind: str, status: int, said: bytes) -> None:
        self.seen.statuses[kind, status] += 1
        self.seen.told_places += bool(PLACES.search(said))


async def _drip(writer: asyncio.StreamWriter, more: bytes) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(0.2)
            writer.write(more)
            await writer.drain()


def _head(length: int) -> bytes:
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
    )


def _body(given: str) -> bytes:
    return json.dumps({"input": given}).encode()


def _address(content: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(content).decode()


def _wav(waveform: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


async def at_once(clients: int, requests: int, ask: Callable[[int], Awaitable[None]]) -> float:
    """Let so many clients ask one request after the other; in how many seconds."""
    numbers = iter(range(requests))

    async def client() -> None:
        for number in numbers:
            await ask(number)

    began = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(clients)])
    return time.perf_counter() - began


async def under_attack(server: Server, who: Clients, *, clients: int, requests: int) -> dict[str, object]:
    """All kinds at once."""
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    order = np.random.default_rng(0).permutation(np.resize(np.arange(len(kinds)), requests))
    before, samples = server.megabytes(), [0.0]

    async def sample() -> None:
        while True:
            samples.append(server.megabytes())
            await asyncio.sleep(0.05)

    sampling = asyncio.create_task(sample())
    took = await at_once(clients, requests, lambda number: who.ask(kinds[order[number]], number))
    sampling.cancel()
    _, said = await who._send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    seen = who.seen
    left = {name: float(re.search(rf"^{name} (\S+)".encode(), said, re.MULTILINE)[1]) for name in (  # pyright: ignore[reportOptionalSubscript]
        "lapis_held_bytes", "lapis_held_sound_seconds", "lapis_requests_at_once", "lapis_uploads_at_once")}  # fmt: skip
    failed = sum(count for (_, status), count in seen.statuses.items() if status >= 500 and status not in (503, 504))
    return {
        "clients": clients,
        "requests": requests,
        "seconds": took,
        "answers": {kind: {str(s): n for (k, s), n in sorted(seen.statuses.items()) if k == kind} for kind in SHARES},
        "good_seconds": {"p50": statistics.median(seen.seconds), "p95": float(np.quantile(seen.seconds, 0.95))},
        "unequal": seen.unequal,
        "told_places": seen.told_places,
        "failed": failed,
        "megabytes": {"before": before, "peak": max(samples), "after": server.megabytes()},
        "left": left,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few clients, a small model that has learned nothing")
    parser.add_argument("--model", default="", help="a folder or a name; a small untrained one unless told")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="of each server, together and alone in turns")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("bench/results/serve.json"))
    options = parser.parse_args()
    if options.serve:
        limits = Limits(**json.loads(options.serve))
        embedder = embedder_of(options.model)
        serve(lambda: Service(embedder, name="measured", limits=limits), port=0, keys=Keys())
        return
    clients, requests = (10, 40) if options.quick else (options.clients, options.requests)
    rounds = 1 if options.quick else options.rounds
    embedder, random = embedder_of(options.model), np.random.default_rng(0)
    texts = [f"sound number {number} of a long list" for number in range(40)]
    sounds = [
        random.normal(scale=0.1, size=round(embedder.sample_rate * seconds)).astype(np.float32)
        for seconds in random.uniform(0.3, 4.0, 20)
    ]
    patience = 2.0 if options.quick else 10.0
    limits = {"requests_a_minute": 10**9, "body_bytes": BODY_BYTES}
    limits |= {"header_seconds": patience, "upload_seconds": patience}
    with running(options.model, limits) as together, running(options.model, limits | ALONE) as alone:
        who = Clients(together.port, embedder, texts, sounds)
        found = asyncio.run(under_attack(together, who, clients=clients, requests=requests))
        print(json.dumps(found, indent=1))
        rates: dict[str, dict[str, list[float]]] = {}
        for _ in range(rounds):
            for name, server in (("together", together), ("alone", alone)):
                for kind in ("text", "sound"):
                    who = Clients(server.port, embedder, texts, sounds)
                    took = asyncio.run(at_once(min(clients, 32), requests // 4, lambda n, w=who, k=kind: w.ask(k, n)))
                    if who.seen.unequal or set(who.seen.statuses) != {(kind, 200)}:
                        raise RuntimeError(f"{name}: {who.seen}")
                    rates.setdefault(kind, {}).setdefault(name, []).append(requests // 4 / took)
    print(f"\n{'requests a second':20}{'together':>12}{'alone':>12}")
    for kind, of in rates.items():
        print(f"{kind:20}{statistics.median(of['together']):12.0f}{statistics.median(of['alone']):12.0f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"attack": found, "requests_a_second": rates}, indent=2))
    if found["failed"] or found["unequal"] or found["told_places"]:
        raise SystemExit("a server failed, answered something else, or told of its places")


if __name__ == "__main__":
    main()
