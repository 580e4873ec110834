"""One file from the assets and the data: nothing is loaded, and nothing but the page's own script can run."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from maskdsl.base.text import markup, script_json

_SCRIPTS = (
    *("decode", "operators", "evaluate", "reasons", "tokens", "colours", "patches", "view", "picture", "map"),
    *("grid", "panels", "watch", "theme", "main"),
)
"""In the order in which they use each other."""


def page_html(models: Sequence[dict[str, Any]], title: str, watch: dict[str, Any] | None = None) -> str:
    """The page of a pattern, or of the layers of a stack, from their `page_data`. Without any it says what `watch` has.

    `watch` has the state of the server that the page asks for changes: `version`, and `error` if there is one.
    """
    script, style = _asset_script(), asset("page.css")
    content = {"models": list(models), "watch": watch}
    return Template(asset("page.html")).substitute(
        title=markup(title),
        policy=_policy(script, style, connects=watch is not None),
        style=style,
        data=script_json(content),
        script=script,
    )


def _policy(script: str, style: str, connects: bool) -> str:
    """What the browser may do: run this script and use this style, and ask the server that the page came from."""
    sources = {
        "default-src": "'none'",
        "script-src": _sha256(script),
        "style-src": _sha256(style),
        "img-src": "data:",
        "connect-src": "'self'" if connects else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in sources.items())


def _sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def asset(name: str) -> str:
    return files("maskdsl.view.page").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _asset_script() -> str:
    """All scripts as one module, in strict mode and with names of its own."""
    return "\n".join(asset(f"{name}.js") for name in _SCRIPTS)
