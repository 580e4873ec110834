"""What `check` finds, as JSON of our own, as annotations of GitHub Actions, and as SARIF 2.1.0."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from maskdsl import __version__
from maskdsl.base.diagnostics import Diagnostic, render
from maskdsl.base.source import Span

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def as_dict(diagnostic: Diagnostic) -> dict[str, object]:
    """A diagnostic as plain data. Lines and columns are counted from 1; the end is behind the last character."""
    position: dict[str, object] = {}
    if diagnostic.span is not None:
        (line, column), (end_line, end_column) = _ends(diagnostic.span)
        position = {"file": diagnostic.span.source.name, "line": line, "column": column}
        position |= {"end_line": end_line, "end_column": end_column}
    message, help = diagnostic.fill(diagnostic.message), diagnostic.fill(diagnostic.help)
    return {"code": diagnostic.code, "message": message, **position, "help": help, "text": render(diagnostic)}


def github(file: str, diagnostic: Diagnostic) -> str:
    """A workflow command of GitHub Actions, which shows the diagnostic beside its line."""
    properties: dict[str, object] = {"file": file}
    if diagnostic.span is not None:
        (line, column), (end_line, end_column) = _ends(diagnostic.span)
        properties = {"file": diagnostic.span.source.name, "line": line, "col": column}
        if end_line == line:  # columns are ignored over several lines
            properties |= {"endColumn": max(column, end_column - 1)}
        properties |= {"endLine": end_line}
    given = ",".join(f"{name}={_escaped(str(value), ',:')}" for name, value in properties.items())
    return f"::{diagnostic.severity} {given},title={diagnostic.code}::{_escaped(_sentences(diagnostic))}"


def sarif(diagnostics: Sequence[tuple[str, Diagnostic]]) -> str:
    """A log of SARIF 2.1.0 with one run, from files and what is found in them."""
    kinds = {type(each).code: type(each) for _, each in diagnostics}
    rules = [
        {
            "id": code,
            "name": kind.__name__,
            "shortDescription": {"text": re.sub(r"\{.*?\}", "...", kind.message)},
            "defaultConfiguration": {"level": kind.severity},
        }
        for code, kind in kinds.items()
    ]
    numbers = {code: number for number, code in enumerate(kinds)}
    driver = {"name": "maskdsl", "version": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(file, each, numbers[each.code]) for file, each in diagnostics],
    }
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(file: str, diagnostic: Diagnostic, rule: int) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(file)}}
    if diagnostic.span is not None:
        (line, column), (end_line, end_column) = _ends(diagnostic.span)
        region = {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column}
        location = {"artifactLocation": {"uri": _uri(diagnostic.span.source.name)}, "region": region}
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": _sentences(diagnostic)},
        "locations": [{"physicalLocation": location}],
    }


def _uri(file: str) -> str:
    path = Path(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="replace")


def _ends(span: Span) -> tuple[tuple[int, int], tuple[int, int]]:
    """Line and column of the first character, and behind the last one; at least one column apart."""
    source = span.source
    return source.position(span.start), source.position(max(span.end, span.start + 1))


def _sentences(diagnostic: Diagnostic) -> str:
    """The message, the label, and the advice, one below the other."""
    nearest = "" if diagnostic.nearest is None else f"did you mean `{diagnostic.nearest}`?"
    texts = [diagnostic.fill(diagnostic.message), diagnostic.fill(diagnostic.label), nearest]
    return "\n".join(filter(None, [*texts, diagnostic.fill(diagnostic.help)]))


def _escaped(text: str, more: str = "") -> str:
    """Text for a workflow command: percent signs, control characters and `more` are escaped."""
    return "".join(f"%{ord(each):02X}" if each in f"%{more}" or ord(each) < 32 else each for each in text)
