"""An object store for tests: moto's S3 server in a process of its own, and the environment in which it is found."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

BUCKET = "bucket"


@contextlib.contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """The address of a server with one bucket, `s3://bucket`, while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | environment
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                put(address, BUCKET)
                break
            except OSError:
                assert server.poll() is None, "the S3 server ended"
                time.sleep(0.05)
        yield address
    finally:
        server.kill()
        server.wait()


def put(address: str, name: str, content: bytes = b"") -> None:
    """Make a bucket, or an object of it."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    plain = {"Content-Type": "application/octet-stream"}  # what is called a form, moto waits for
    request = urllib.request.Request(f"{address}/{name}", data=content, headers=plain, method="PUT")
    direct.open(request, timeout=20).close()


def settings(address: str) -> dict[str, str]:
    """What is to stand in the environment, as a user would have it."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }


def not_ours() -> list[str]:
    """Variables of this machine that would lead elsewhere."""
    return [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]
