"""A page on this machine alone that follows its files: served on the loopback address, built anew when one changes."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from maskdsl.base.diagnostics import AttnError
from maskdsl.view.page.html import page_html

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Built:
    """A pattern or the different layers of a stack as `page_data` has them, and the files they were made from."""

    name: str
    models: list[dict[str, Any]]
    files: tuple[Path, ...]


class Watched:
    """The newest page that could be built, and what is wrong with its files, if something is.

    Nothing runs in the background: the files are looked at when a browser asks.
    """

    def __init__(self, build: Callable[[], Built], files: Iterable[Path], title: str) -> None:
        self.build = build
        self.files = tuple(files)
        self.title = title
        self.models: list[dict[str, Any]] = []
        self.error: str | None = None
        self.version = 0
        self.stamps: dict[Path, tuple[int, int] | None] = {}
        self.lock = Lock()

    def state(self) -> dict[str, Any]:
        """Builds anew if a file has changed."""
        with self.lock:
            if self.version == 0 or self.stamps != {path: _stamp(path) for path in self.files}:
                self.refresh()
            return {"version": self.version, "error": self.error}

    def refresh(self) -> None:
        before = {path: _stamp(path) for path in self.files}
        try:
            built = self.build()
        except AttnError as error:
            self.error = str(error)
            named = (each.span.source.name for each in error.diagnostics if each.span is not None)
            self.files = tuple(dict.fromkeys((*self.files, *(Path(name) for name in named if Path(name).is_file()))))
        else:
            self.models, self.error = built.models, None
            self.files = tuple(dict.fromkeys((*self.files[:1], *built.files)))
        self.stamps = {path: before[path] if path in before else _stamp(path) for path in self.files}
        self.version += 1

    def page(self) -> str:
        state = self.state()
        return page_html(self.models, self.title, watch=state)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is saved; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def server(watched: Watched, port: int = 0) -> ThreadingHTTPServer:
    """Serves the page at `/` and its state at `/state`, to this machine only. Port 0 is any that is free."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            port = self.connection.getsockname()[1]
            if self.headers.get("Host") not in (
                f"{HOST}:{port}",
                f"localhost:{port}",
            ):  # a name that leads here from afar
                self.answer(HTTPStatus.FORBIDDEN, "text/plain", "this page is served to this machine only")
            elif self.path == "/":
                self.answer(HTTPStatus.OK, "text/html", watched.page())
            elif self.path == "/state":
                self.answer(HTTPStatus.OK, "application/json", json.dumps(watched.state()))
            else:
                self.answer(HTTPStatus.NOT_FOUND, "text/plain", "there is nothing here")

        def answer(self, status: HTTPStatus, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: the terminal is for errors."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Browsers that leave in the middle of an answer are no error."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    return Server((HOST, port), Handler)
