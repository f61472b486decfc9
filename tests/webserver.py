"""A web server on 127.0.0.1 that misbehaves on demand."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Hands every request to what the test put under its path."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        answer = self.server.paths.get(self.path)
        if answer is None:
            self.answer(404, b"gone", {"Content-Type": "text/plain"})
        else:
            answer(self)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """A whole answer; ``headers`` may contradict it."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    """``paths`` says what answers where; ``seen`` lists the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: dict[str, Callable[[Handler], None]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def file(
    body: bytes,
    *,
    breaks: list[int] | None = None,
    tag: str | None = '"one"',
    ranges: bool = True,
    **more: str,
) -> Callable[[Handler], None]:
    """A file, with ranges. The first answers end after ``breaks`` bytes each."""
    breaks = breaks if breaks is not None else []
    headers = {} if tag is None else {"ETag": tag}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}

    def answer(handler: Handler) -> None:
        asked = handler.headers.get("Range")
        start = 0
        if ranges and asked is not None and handler.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        rest = body[start:]
        here = {"Content-Length": str(len(rest))} | headers
        if start:
            here["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        sent = rest[: breaks.pop(0)] if breaks else rest
        handler.answer(206 if start else 200, sent, here)

    return answer


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(code, b"", headers)


def in_turn(*answers: Callable[[Handler], None]) -> Callable[[Handler], None]:
    """One after the other; the last for good."""
    left = list(answers)

    def answer(handler: Handler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def silence(seconds: float) -> Callable[[Handler], None]:
    """Headers, some bytes, and then nothing."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"some")
        handler.wfile.flush()
        time.sleep(seconds)
        handler.close_connection = True

    return answer
