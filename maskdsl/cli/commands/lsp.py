"""`lsp`: the language server, where it is installed."""

from importlib.util import find_spec

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NoLanguageServer


def serve() -> None:
    """Answers an editor until it hangs up."""
    if find_spec("pygls") is None:
        raise AttnError(NoLanguageServer())
    from maskdsl.view.language_server.server import make_server  # an optional dependency

    make_server().start_io()
