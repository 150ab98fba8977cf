"""A small web server that gives ranges of the files of a folder, and misbehaves as it is told."""

import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """Serves a folder while it is entered; `troubles` are used up, one an answer: 503, late, cut, short, drop."""

    def __init__(self, folder: Path, *, troubles: tuple = (), ranges: bool = True, late_seconds: float = 1.5) -> None:
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

            def setup(self) -> None:
                super().setup()
                with outer.lock:
                    outer.connections += 1

            def do_GET(self) -> None:
                outer.answer(self)

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
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers["Range"]).groups())
        with self.lock:
            trouble = self.troubles.pop(0) if self.troubles else self.always
            self.met[str(trouble)] += 1
            self.asked.append((handler.path, first, last - first + 1))
        path = self.folder / handler.path.lstrip("/")
        if trouble == "late":
            time.sleep(self.late_seconds)
        if trouble == "drop":
            handler.close_connection = True
            return
        if isinstance(trouble, int):
            handler.send_response(trouble)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if handler.path.startswith("/moved/"):
            handler.send_response(302)
            handler.send_header("Location", handler.path.removeprefix("/moved"))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if not path.is_file():
            handler.send_error(404)
            return
        whole = path.read_bytes()
        content = whole[first : last + 1] if self.ranges else whole
        if not content:
            handler.send_error(416)
            return
        handler.send_response(206 if self.ranges else 200)
        handler.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        short = trouble == "short" and len(content) > 1
        if self.ranges:
            end = first + len(content) - 1 - short
            handler.send_header("Content-Range", f"bytes {first}-{end}/{len(whole)}")
        handler.send_header("Content-Length", str(len(content) - short))
        handler.end_headers()
        try:
            if trouble == "cut":
                handler.wfile.write(content[: len(content) // 2])
                handler.wfile.flush()
                handler.connection.shutdown(1)
                handler.close_connection = True
            else:
                handler.wfile.write(content[:-1] if short else content)
        except OSError:
            handler.close_connection = True
