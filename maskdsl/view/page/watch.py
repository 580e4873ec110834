"""Serves a page on the loopback address of this machine, and rebuilds it when one of its files changes."""

import json
import sys
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.records import dataclass
from maskdsl.view.page.html import page_html

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Built:
    """The `page_data` of a pattern or of the different layers of a stack, and the files that it was built from."""

    name: str
    models: list[dict[str, Any]]
    files: tuple[Path, ...]


class Watched:
    """The newest page that could be built, and the error of the files if they have one.

    Nothing runs in the background: files are checked when a browser asks.
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
        """The version and the error, after a rebuild if a file has changed."""
        with self.lock:
            if self.version == 0 or self.stamps != {path: _stamp(path) for path in self.files}:
                self.refresh()
            return {"version": self.version, "error": self.error}

    def refresh(self) -> None:
        """Rebuilds the page, and remembers the times of its files."""
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
        """The page as HTML."""
        state = self.state()
        return page_html(self.models, self.title, watch=state)


def _stamp(path: Path) -> tuple[int, int] | None:
    """The time and the size of a file, which change when it is saved; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def server(watched: Watched, port: int = 0) -> ThreadingHTTPServer:
    """A server of the page at `/` and its state at `/state`, for this machine only. Port 0 stands for any free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            port = self.connection.getsockname()[1]
            if self.headers.get("Host") not in (
                f"{HOST}:{port}",
                f"localhost:{port}",
            ):  # DNS rebinding: another name for this address
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
            """Logs nothing: the terminal is for errors."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignores browsers that close the connection during an answer."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    return Server((HOST, port), Handler)
