"""The server on a real socket: stopping, slow clients, clients that leave, too many of them."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest
from serving import Counting, answer_of, running, wait_for

import tiny
from lapis import saved
from lapis.serve.keys import Keys
from lapis.serve.running import ServeWarning, is_loopback, serve, server_of
from lapis.serve.service import Service

BODY = json.dumps({"input": "a dog"}).encode()
HEAD = (
    b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


def everything(connection):
    """What comes until the server closes; nothing, where it breaks off."""
    pieces = []
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def test_told_to_stop_it_finishes_what_is_begun_and_refuses_what_is_new():
    embedder = Counting()
    with running(embedder) as (server, connect):
        embedder.open.clear()
        begun, half, idle, late = connect(), connect(), connect(), connect()
        begun.sendall(HEAD % len(BODY) + BODY)
        half.sendall(HEAD % len(BODY) + BODY[:5])
        wait_for(lambda: (server.gate.at_once, server.gate.uploading) == (1, 1) and embedder.entered.is_set())
        server.gate.draining = True
        late.sendall(HEAD % len(BODY) + BODY)
        answer = everything(late)  # the connection ends, though its client might keep it
        assert answer.startswith(b"HTTP/1.1 503") and b"connection: close" in answer
        server.handle_exit(signal.SIGTERM, None)
        assert everything(idle) == b""

        def refused():
            try:
                connect().close()
            except ConnectionRefusedError:
                return True
            return False

        wait_for(refused)
        half.sendall(BODY[5:])
        embedder.open.set()
        for connection in (begun, half):
            answer = everything(connection)
            assert answer.startswith(b"HTTP/1.1 200") and b'"object":"embedding"' in answer
        for connection in (begun, half, idle, late):
            connection.close()


def test_slow_and_aborted_uploads_and_too_many_connections():
    with running(Counting(), header_seconds=0.7, upload_seconds=0.2, connections=3) as (server, connect):
        server.gate.discard_seconds = 0.1
        silent, headless, slow = connect(), connect(), connect()
        headless.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: loc")
        slow.sendall(HEAD % 100 + b"{")
        more = connect()
        assert everything(more) == b""
        assert everything(silent) == b"" and everything(headless) == b""
        answer = everything(slow)
        assert answer.startswith(b"HTTP/1.1 408") and b"connection: close" in answer
        wait_for(lambda: not server.server_state.connections)
        aborted = connect()
        aborted.sendall(HEAD % 100 + b"{")
        wait_for(lambda: server.gate.uploading == 1)
        aborted.close()
        wait_for(lambda: server.gate.uploading == 0)
        # The head of a second request may be as slow as that of a first, and no slower.
        again = connect()
        again.sendall(HEAD % len(BODY) + BODY)
        assert answer_of(again).startswith(b"HTTP/1.1 200")
        again.sendall(b"GET /heal")
        assert b"HTTP/1.1" not in everything(again)
        for connection in (silent, headless, slow, more, again):
            connection.close()
        assert server.gate.service.held_bytes.taken == 0


def test_a_large_body_is_refused_so_that_its_sender_hears_it():
    with running(Counting(), body_bytes=1000) as (_, connect):
        connection = connect()
        connection.sendall(HEAD % 3_000_000 + b" " * 3_000_000)
        assert answer_of(connection).startswith(b"HTTP/1.1 413")
        connection.sendall(HEAD % len(BODY) + BODY)  # the connection goes on
        assert answer_of(connection).startswith(b"HTTP/1.1 200")
        asking = connect()
        asking.sendall((HEAD % 3_000_000).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert everything(asking).startswith(b"HTTP/1.1 413")
        connection.close(), asking.close()


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)])
def test_a_door_to_the_outside_is_told(host, own, recwarn):
    async def make():
        for keys in (Keys(), Keys(["a-key-of-sixteen-characters"])):
            server = server_of(Service(Counting(), name="tiny"), host=host, port=0, keys=keys)
            assert server.gate.loopback_names is own

    asyncio.run(make())
    assert is_loopback(host) is own
    said = [str(warning.message) for warning in recwarn.list if warning.category is ServeWarning]
    assert len(said) == (0 if own else 2)
    assert own or ("give it keys" in said[0] and "only who has a key" in said[1])


def test_mistakes_are_one_sentence(lapis, tmp_path):
    saved.save(tiny.model(0), tmp_path / "model")
    for words, sentence in (
        (["--limit", "requests_a_minut=3"], "did you mean 'requests_a_minute'?"),
        (["--limit", "inputs=many"], "expected int, got 'many'"),
        (["--limit", "inputs=0"], "inputs must be above zero"),
        (["--keys", tmp_path / "absent"], "expected a file of keys"),
    ):
        answer = lapis("serve", tmp_path / "model", *words)
        assert answer.returncode == 2 and sentence in answer.stderr and answer.stderr.count("\n") == 1, answer.stderr
    with pytest.raises(ValueError, match="there is no index in"):
        asyncio.run(_service(index=tmp_path / "absent"))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ValueError, match="cannot be listened on"):
        serve(lambda: Service(Counting(), name="tiny"), port=taken.getsockname()[1], keys=Keys())


def test_sigterm_ends_it_well(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ready = []

    def ask_and_stop():
        def answers():
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
                ready.append(json.load(answer))
            return ready

        wait_for(answers)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask_and_stop)
    thread.start()
    serve(lambda: Service(Counting(), name="tiny"), port=port, keys=Keys())
    thread.join(20)
    assert ready == [{"status": "ready", "model": "tiny"}] and signal.getsignal(signal.SIGTERM) is before
    assert f"tiny on http://127.0.0.1:{port}" in capsys.readouterr().err


async def _service(**options):
    return Service(Counting(), name="tiny", **options)


@pytest.mark.slow
def test_the_command_ends_well_when_it_is_told_to(tmp_path):
    saved.save(tiny.model(0), tmp_path / "model")
    code = "import sys, tiny\nfrom lapis.cli import main\nmain(sys.argv[1:])"
    command = [sys.executable, "-c", code, "serve", str(tmp_path / "model"), "--port", "0"]
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})
    try:
        line = next(line for line in process.stderr if " on http://" in line)
        address = re.search(r"http://\S+", line)[0]
        with urllib.request.urlopen(address + "/readyz", timeout=20) as answer:
            assert json.load(answer) == {"status": "ready", "model": "model"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()
