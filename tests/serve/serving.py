"""A server in this process: a model that counts its batches, sounds to send, and a client of the app."""

import asyncio
import base64
import contextlib
import io
import signal
import socket
import threading
import time

import httpx2
import numpy as np
import soundfile

import tiny
from lapis.serve.app import app_of
from lapis.serve.keys import Keys
from lapis.serve.limits import Limits
from lapis.serve.running import server_of
from lapis.serve.service import Service

RATE = 16_000


class Counting:
    """A joint model behind a door that can be held shut, which notes how many go through at once."""

    def __init__(self, model=None):
        self.model = model or tiny.model(0)
        self.identity, self.sample_rate, self.width = self.model.identity, self.model.sample_rate, self.model.width
        self.calibration = self.model.calibration
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.batches = []

    def embed_audio(self, waveforms):
        self._enter(waveforms)
        if any(np.abs(waveform).max() > 50 for waveform in waveforms):
            raise ValueError("the file /secret/place is too loud")
        return self.model.embed_audio(waveforms)

    def embed_text(self, texts):
        self._enter(texts)
        return self.model.embed_text(texts)

    def _enter(self, values):
        self.batches.append(len(values))
        self.entered.set()
        assert self.open.wait(30)


def noise(seconds=0.5, *, seed=0, rate=RATE):
    return np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate)).astype(np.float32)


def wav(waveform, *, rate=RATE, subtype="FLOAT"):
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def address(content):
    return "data:audio/wav;base64," + base64.b64encode(content).decode()


@contextlib.asynccontextmanager
async def client_of(embedder, *, keys=None, root=None, loopback_names=False, limits=None, peer="127.0.0.1", **options):
    """A client of an app that lives as long as the block; `client.gate` is the app."""
    service = Service(embedder, name="tiny", limits=limits or Limits(), **options)
    gate = app_of(service, keys=keys, root=root, loopback_names=loopback_names)
    async with (
        gate.app.router.lifespan_context(gate.app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(gate, client=(peer, 1)), base_url="http://localhost:8000"
        ) as client,
    ):
        client.gate = gate
        yield client


@contextlib.contextmanager
def live(embedder, *, keys=None, root=None, index=None, limits=None):
    """A server in a thread, on a free port of loopback; `server.place` is where it listens."""
    started, kept = threading.Event(), []

    def work():
        async def serve():
            service = Service(embedder, name="tiny", index=index, limits=limits or Limits())
            server = server_of(service, host="127.0.0.1", port=0, keys=keys or Keys(), root=root)
            sockets = [server.config.bind_socket()]
            server.place = sockets[0].getsockname()
            server.address = f"http://127.0.0.1:{server.place[1]}"
            kept.append(server)
            task = asyncio.create_task(server.serve(sockets))
            while not server.started:
                await asyncio.sleep(0.005)
            started.set()
            await task

        asyncio.run(serve())

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(20)
    (server,) = kept
    try:
        yield server
    finally:
        server.handle_exit(signal.SIGTERM, None)
        thread.join(20)
        assert not thread.is_alive()


@contextlib.contextmanager
def running(embedder, *, keys=None, root=None, index=None, **limits):
    """A live server and a function that connects to it; what the embedder holds back is let go at the end."""
    with live(embedder, keys=keys, root=root, index=index, limits=Limits(**limits)) as server:
        try:
            yield server, lambda: socket.create_connection(server.place, timeout=20)
        finally:
            embedder.open.set()


def answer_of(connection):
    """One answer with an object in it, of a connection that may go on."""
    said = b""
    while not said.endswith(b"}") and (piece := connection.recv(65536)):
        said += piece
    return said


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came")


def run(scenario):
    """A coroutine to its end, or a failure after half a minute."""
    return asyncio.run(asyncio.wait_for(scenario, 30))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)
