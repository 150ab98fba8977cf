"""Small servers that give ranges of the files of a folder, and misbehave as they are told: of the web, and of S3."""

import re
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

WHOLE = 1 << 62


class Server:
    """Serves a folder while it is entered; `troubles` are used up, one an answer: 503, late, cut, short, drop."""

    def __init__(self, folder: Path, *, troubles: tuple = (), ranges: bool = True, late_seconds: float = 1.0) -> None:
        self.folder, self.troubles, self.ranges, self.late_seconds = folder, list(troubles), ranges, late_seconds
        self.always: object = None
        self.met: Counter = Counter()
        self.asked: list[tuple[str, int, int]] = []
        self.connections = 0
        self.lock = threading.Lock()

    def __enter__(self) -> "Server":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each answer waits 40 ms between its headers and its content

            def setup(self) -> None:
                super().setup()
                with outer.lock:
                    outer.connections += 1

            def do_GET(self) -> None:
                outer.answer(self)

            do_HEAD = do_GET

            def log_message(self, *arguments) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *error) -> None:
        self.always, self.troubles = "drop", []  # on connections that are still open
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        first, last = map(int, asked.groups()) if asked else (0, WHOLE)
        with self.lock:
            trouble = self.troubles.pop(0) if self.troubles else self.always
            self.met[str(trouble)] += 1
            self.asked.append((handler.path, first, last - first + 1))
        if trouble == "late":
            time.sleep(self.late_seconds)
        if trouble == "drop":
            handler.close_connection = True
            return
        if isinstance(trouble, int):
            send(handler, trouble)
            return
        self.give(handler, first, last, trouble)

    def give(self, handler: BaseHTTPRequestHandler, first: int, last: int, trouble: object) -> None:
        if handler.path.startswith("/moved/"):
            send(handler, 302, {"Location": handler.path.removeprefix("/moved")})
            return
        self.give_file(handler, self.folder / handler.path.lstrip("/"), first, last, trouble)

    def give_file(self, handler: BaseHTTPRequestHandler, path: Path, first: int, last: int, trouble: object) -> None:
        if not path.is_file():
            send(handler, 404)
            return
        whole = path.read_bytes()
        partly = self.ranges and last < WHOLE
        content = whole[first : last + 1] if partly else whole
        if partly and not content:
            send(handler, 416)
            return
        modified = path.stat().st_mtime_ns
        headers = {"ETag": f'"{modified}"', "Last-Modified": formatdate(modified / 1e9, usegmt=True)}
        if trouble == "short" and len(content) > 1:
            content = content[:-1]
        if partly:
            headers["Content-Range"] = f"bytes {first}-{first + len(content) - 1}/{len(whole)}"
        send(handler, 206 if partly else 200, headers, content, cut=trouble == "cut")


class S3Server(Server):
    """The folder as the bucket `bucket`, addressed by path, unsigned; it lists two objects at a time."""

    def give(self, handler: BaseHTTPRequestHandler, first: int, last: int, trouble: object) -> None:
        parts = urlsplit(handler.path)
        bucket, _, name = unquote(parts.path).lstrip("/").partition("/")
        if bucket != "bucket":
            send(handler, 404)
        elif name:
            self.give_file(handler, self.folder / name, first, last, trouble)
        else:
            send(handler, 200, {"Content-Type": "application/xml"}, self.listed(parts.query), cut=trouble == "cut")

    def listed(self, query: str) -> bytes:
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        assert asked["list-type"] == "2" and "delimiter" not in asked
        names = sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        names = [name for name in names if name.startswith(asked.get("prefix", ""))]
        begin = int(asked.get("continuation-token", "0"))
        objects = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{(self.folder / name).stat().st_size}</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in names[begin : begin + 2]
        )
        more = begin + 2 < len(names)
        token = f"<NextContinuationToken>{begin + 2}</NextContinuationToken>" if more else ""
        return (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{objects}</ListBucketResult>"
        ).encode()


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: dict | None = None,
    content: bytes = b"",
    *,
    cut: bool = False,
) -> None:
    """An answer, or the first half of it."""
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    try:
        handler.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            handler.wfile.flush()
            handler.connection.shutdown(1)
            handler.close_connection = True
    except OSError:
        handler.close_connection = True
