"""An HTTP server on loopback with the faults of real servers: cut connections, error statuses, no range requests."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 1 << 16
"""Bytes that are sent at once."""


@dataclass
class Server:
    """The server's behaviour, and a record of its requests.

    `content` is one file for every path, or files by name. `cuts` are the numbers of bytes after which it closes its
    next connections, `statuses` the status codes of its next responses, `pause` the seconds after each block.
    """

    content: bytes | dict[str, bytes]
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    pause: float = 0.0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0
    address: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.asked.append((request.path, wanted))
        content = self.find_content(request.path)
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            request.send_response(status)
            if status == 302:
                request.send_header("Location", "/elsewhere" + request.path)
            request.end_headers()
        elif content is None:
            request.send_error(404)
        else:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0  # type: ignore[index]
            self.send(request, content, start)

    def find_content(self, path: str) -> bytes | None:
        if isinstance(self.content, bytes):
            return self.content
        return self.content.get(path.rpartition("/")[2])

    def send(self, request: BaseHTTPRequestHandler, content: bytes, start: int) -> None:
        if start >= len(content) > 0:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.end_headers()
            return
        body = content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cuts:
            body = body[: self.cuts.pop(0)]
        for position in range(0, len(body), BLOCK):
            request.wfile.write(body[position : position + BLOCK])
            time.sleep(self.pause)
        self.sent += len(body)


@contextlib.contextmanager
def serve_file(content: bytes | dict[str, bytes]) -> Iterator[Server]:
    """Serve one file at every path, or files by name in any folder."""
    server = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):  # the client was killed
                server.answer(self)

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    server.address = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
