"""The server: receives the requests of an editor over standard input and output, and answers with the other modules.

Each answer is computed from one version of a text only. Diagnostics are published when the author pauses; work that may
take long is done in another process.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from maskdsl import __version__
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.source import Source, Span
from maskdsl.syntax.format import format_file
from maskdsl.syntax.parse import parse
from maskdsl.view.language_server.completion import completion
from maskdsl.view.language_server.definition import definition
from maskdsl.view.language_server.documents import Document
from maskdsl.view.language_server.hover import hover
from maskdsl.view.language_server.measure import SECONDS, Measurements
from maskdsl.view.language_server.symbols import symbols
from maskdsl.view.language_server.text_diagnostics import diagnose, range_of

_PAUSE = 0.2
"""The seconds without a change after which a text is checked."""


class AttnServer(LanguageServer):
    """The state of a session: the last parsed versions of texts, and pending checks."""

    def __init__(self) -> None:
        super().__init__("maskdsl", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self.documents: dict[str, Document] = {}
        self.checks: dict[str, asyncio.Task[None]] = {}
        self.measurements = Measurements()

    def document(self, uri: str) -> Document:
        """The newest version of a text; an empty one if there is no such text."""
        try:
            text = self.workspace.get_text_document(uri).source
        except (OSError, UnicodeDecodeError):  # a request about a text that was not opened
            text = ""
        known = self.documents.get(uri)
        if known is None or known.text != text:
            known = self.documents[uri] = Document(uri, text)
        return known

    def check_soon(self, uri: str, pause: float = _PAUSE) -> None:
        """Checks a text after a pause, unless it changes before."""
        if uri in self.checks:
            self.checks[uri].cancel()
        self.checks[uri] = asyncio.get_running_loop().create_task(self._check(uri, pause))

    async def _check(self, uri: str, pause: float) -> None:
        await asyncio.sleep(pause)
        version = self.workspace.get_text_document(uri).version
        diagnostics = await asyncio.to_thread(diagnose, self.document(uri))
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, diagnostics, version=version))

    def forget(self, uri: str) -> None:
        """Drops everything about a text that was closed."""
        check = self.checks.pop(uri, None)
        if check is not None:
            check.cancel()
        self.documents.pop(uri, None)
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))


def make_server() -> AttnServer:
    """A server with all of its requests registered."""
    server = AttnServer()
    for method, answer in _REQUESTS.items():
        server.feature(method, _OPTIONS.get(method))(answer)
    return server


def _initialized(server: AttnServer, params: types.InitializeParams) -> None:
    options: Any = params.initialization_options
    seconds = options.get("measureSeconds", SECONDS) if isinstance(options, dict) else SECONDS
    server.measurements = Measurements(float(seconds))


async def _opened(server: AttnServer, params: types.DidOpenTextDocumentParams) -> None:
    server.check_soon(params.text_document.uri, pause=0)


async def _changed(server: AttnServer, params: types.DidChangeTextDocumentParams) -> None:
    server.check_soon(params.text_document.uri)


async def _saved(server: AttnServer, params: types.DidSaveTextDocumentParams) -> None:
    """Checks all texts again, as they may use the saved one."""
    for uri in server.workspace.text_documents:
        server.documents.pop(uri, None)
        server.check_soon(uri, pause=0)


def _closed(server: AttnServer, params: types.DidCloseTextDocumentParams) -> None:
    server.forget(params.text_document.uri)


async def _hover(server: AttnServer, params: types.HoverParams) -> types.Hover | None:
    document, offset = _position(server, params.text_document.uri, params.position)
    result = await hover(document, offset, server.measurements)
    if result is None:
        return None
    text, span = result
    return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, text), range_of(span, document.lines))


def _definition(server: AttnServer, params: types.DefinitionParams) -> types.Location | None:
    return definition(*_position(server, params.text_document.uri, params.position))


def _completion(server: AttnServer, params: types.CompletionParams) -> types.CompletionList:
    items = completion(*_position(server, params.text_document.uri, params.position))
    return types.CompletionList(is_incomplete=False, items=items)


def _symbols(server: AttnServer, params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
    return symbols(server.document(params.text_document.uri))


def _formatted(server: AttnServer, params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
    """An edit of the whole text to the canonical layout; None if it cannot be parsed."""
    document = server.document(params.text_document.uri)
    source = Source(document.name, document.text)
    try:
        text = format_file(parse(source))
    except AttnError:
        return None
    if text == document.text:
        return []
    return [types.TextEdit(range_of(Span(source, 0, len(document.text)), document.lines), text)]


def _position(server: AttnServer, uri: str, position: types.Position) -> tuple[Document, int]:
    document = server.document(uri)
    return document, document.lines.offset(position.line, position.character)


_REQUESTS: dict[str, Callable[..., Any]] = {
    types.INITIALIZE: _initialized,
    types.TEXT_DOCUMENT_DID_OPEN: _opened,
    types.TEXT_DOCUMENT_DID_CHANGE: _changed,
    types.TEXT_DOCUMENT_DID_SAVE: _saved,
    types.TEXT_DOCUMENT_DID_CLOSE: _closed,
    types.TEXT_DOCUMENT_HOVER: _hover,
    types.TEXT_DOCUMENT_DEFINITION: _definition,
    types.TEXT_DOCUMENT_COMPLETION: _completion,
    types.TEXT_DOCUMENT_DOCUMENT_SYMBOL: _symbols,
    types.TEXT_DOCUMENT_FORMATTING: _formatted,
}
_OPTIONS = {types.TEXT_DOCUMENT_COMPLETION: types.CompletionOptions(trigger_characters=[".", '"', "/", "("])}
