"""The app on a socket, until it is told to stop."""

import asyncio
import ipaddress
import math
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from lapis.serve.app import app_of
from lapis.serve.connections import protocol
from lapis.serve.gate import Gate
from lapis.serve.keys import Keys
from lapis.serve.service import Service

KEEP_ALIVE_SECONDS = 15


class ServeWarning(UserWarning):
    """A server that more can reach than may be meant."""


class _Server(uvicorn.Server):
    """Refuses what comes after it was told to stop, and finishes what had begun."""

    def __init__(self, config: uvicorn.Config, *, gate: Gate) -> None:
        super().__init__(config)
        self.gate = gate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        for listening in sockets or []:  # now, and not when they were bound
            sys.stderr.write(f"lapis: {self.gate.service.name} on http://{host}:{listening.getsockname()[1]}\n")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.gate.draining = True
        super().handle_exit(sig, frame)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def server_of(service: Service, *, host: str, port: int, keys: Keys, root: Path | None = None) -> _Server:
    """What listens there, not begun yet. To be made where an event loop runs.

    Warns:
        ServeWarning: others than this machine reach it.
    """
    loopback = is_loopback(host)
    if not loopback:
        who = "only who has a key gets an answer" if len(keys) else "anybody who reaches it may use it: give it keys"
        warnings.warn(f"{host} is no loopback address; {who}. Nothing is encrypted", ServeWarning, stacklevel=2)
    gate = app_of(service, keys=keys, root=root, loopback_names=loopback)
    config = uvicorn.Config(
        gate,
        host=host,
        port=port,
        http=protocol(service.limits),
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # else a client could say it is another one
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(service.limits.drain_seconds),
    )
    return _Server(config, gate=gate)


def serve(
    make: Callable[[], Service], *, host: str = "127.0.0.1", port: int = 8000, keys: Keys, root: Path | None = None
) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is begun and end well.

    Raises:
        ValueError: the port is none, in use or not to be had.
    """
    if not 0 <= port < 1 << 16:
        raise ValueError(f"expected a port of 0 to 65535, got {port}")

    async def run() -> bool:
        service = make()
        server = server_of(service, host=host, port=port, keys=keys, root=root)
        try:
            sockets = [server.config.bind_socket()]
        except SystemExit:  # uvicorn ends the process, with a line of its log
            await service.close()
            return False
        await server.serve(sockets)
        return True

    with _raised_again_for_nobody():
        listened = asyncio.run(run())
    if not listened:
        raise ValueError(f"{host}:{port} cannot be listened on: another program may have it")


@contextmanager
def _raised_again_for_nobody() -> Iterator[None]:
    """When uvicorn has ended by a signal it raises it again, for what handled it before."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
