"""Builds the page as one file from its assets and data. It loads nothing, and only its own script can run."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from maskdsl.base.text import markup, script_json
from maskdsl.view.palette import DARK, LIGHT, Palette

_SCRIPTS = (
    *("decode", "operators", "evaluate", "reasons", "tokens", "ranks", "colours", "patches", "view", "picture", "map"),
    *("grid", "panels", "watch", "theme", "main"),
)
"""The scripts, each after those that it uses."""
_PALETTES = {"light": LIGHT, "dark": DARK}


def page_html(models: Sequence[dict[str, Any]], title: str, watch: dict[str, Any] | None = None) -> str:
    """The page of a pattern, or of the layers of a stack, from their `page_data`. Without models it shows the error.

    `watch` is the state of the server that the page asks for changes: its `version`, and its `error` or None.
    """
    script, style = _asset_script(), f"{_root_rules()}{asset('page.css')}"
    palettes = {name: {**asdict(each), "rank_shades": each.rank_shades} for name, each in _PALETTES.items()}
    content = {"models": list(models), "watch": watch, "palettes": palettes}
    return Template(asset("page.html")).substitute(
        title=markup(title),
        policy=_policy(script, style, connects=watch is not None),
        style=style,
        data=script_json(content),
        script=script,
    )


def _root_rules() -> str:
    """The colours of light and dark pages as variables of CSS: `--text: rgb(28 30 41)`."""
    rules = [
        f"{where} {{ color-scheme: {scheme}; {'; '.join(_variables(palette))}; }}"
        for where, scheme, palette in ((":root", "light", LIGHT), (':root[data-theme="dark"]', "dark", DARK))
    ]
    return "\n".join([*rules, ""])


def _variables(palette: Palette) -> Iterator[str]:
    for name, colour in asdict(palette).items():
        if name not in ("partial", "ranks"):
            yield f"--{name}: rgb({' '.join(map(str, colour))})"


def _policy(script: str, style: str, connects: bool) -> str:
    """The content security policy: this script, this style, and, if it `connects`, requests to its own server."""
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
    """The text of a file in `assets`."""
    return files("maskdsl.view.page").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _asset_script() -> str:
    """All scripts as one module, which has strict mode and its own scope."""
    return "\n".join(asset(f"{name}.js") for name in _SCRIPTS)
