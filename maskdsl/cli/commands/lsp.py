"""`lsp`: starts the language server, if pygls is installed."""

from importlib.util import find_spec

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NoLanguageServer


def serve() -> None:
    """Serves an editor until it closes the connection. Raises `AttnError` (E530) without pygls."""
    if find_spec("pygls") is None:
        raise AttnError(NoLanguageServer())
    from maskdsl.view.language_server.server import make_server  # an optional dependency

    make_server().start_io()
