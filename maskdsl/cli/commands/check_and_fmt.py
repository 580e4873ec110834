"""`check` and `fmt`: commands on whole files."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from difflib import unified_diff
from pathlib import Path

from rich.text import Text

from maskdsl.analysis.orders.binding import check_defaults
from maskdsl.api import Module, Stack
from maskdsl.base.diagnostics import AttnError, Caution, Diagnostic
from maskdsl.base.errors.language.warnings import NothingDeclared
from maskdsl.base.records import dataclass
from maskdsl.base.source import Source, Span
from maskdsl.base.text import printable
from maskdsl.bind.context.report import MOST_ERRORS, Together
from maskdsl.cli.commands.check_formats import as_dict, github, sarif
from maskdsl.cli.consoles import note, output, print_error, print_warning
from maskdsl.cli.request.attn_files import attn_files
from maskdsl.cli.request.named_files import named_file
from maskdsl.cli.written_files import writing
from maskdsl.ir.heads import Heads
from maskdsl.syntax.build import FIRST_BUILDERS
from maskdsl.syntax.format import format_file
from maskdsl.syntax.parse import LARGEST_TEXT, parse
from maskdsl.syntax.program import load_program, read_source, source_of
from maskdsl.syntax.upgrade import upgraded

_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def check(paths: Sequence[str], heads: Heads, strict: bool, form: str) -> int:
    """Prints the errors and warnings of files and folders, in one of the forms of `--format`.

    Returns 1 if a file has errors, or warnings if `strict`.
    """
    files: list[Checked] = []
    for path in attn_files(paths):
        files.append(checked(path, heads))
        if form == "text":
            files[-1].show()
    told = [(each.path, diagnostic) for each in files for diagnostic in each.diagnostics]
    match form:
        case "json":
            print(json.dumps([each.as_dict() for each in files], indent=2))
        case "github":
            print("".join(f"{github(*each)}\n" for each in told), end="")
        case "sarif":
            print(sarif(told))
        case _ if len(files) > 1:
            errors = sum(each.severity == "error" for _, each in told)
            counts = f"{_counted(errors, 'error')}, {_counted(len(told) - errors, 'warning')}"
            output().print(f"{counts} in {len(files)} files", style="bold")
    return int(any(each.error is not None or (strict and each.cautions) for each in files))


@dataclass(frozen=True)
class Checked:
    """The patterns and stacks of a file, and its errors and warnings."""

    path: str
    patterns: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    unbound: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For patterns that were not bound, the parameters without a default."""
    error: AttnError | None = None
    cautions: tuple[Caution, ...] = ()

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """All errors, then all warnings."""
        return [*(self.error.diagnostics if self.error is not None else ()), *self.cautions]

    def as_dict(self) -> dict[str, object]:
        return {
            "file": self.path,
            "ok": self.error is None,
            "patterns": list(self.patterns),
            "stacks": list(self.stacks),
            "unbound": dict(self.unbound),
            "errors": [as_dict(each) for each in self.error.diagnostics] if self.error is not None else [],
            "warnings": [as_dict(each) for each in self.cautions],
        }

    def show(self) -> None:
        """Prints the result for one file."""
        for caution in self.cautions:
            print_warning(caution)
        if self.error is not None:
            print_error(self.error)
            return
        counts = _counted(len(self.patterns), "pattern")
        shown = Text.assemble((printable(self.path), "bold"), ": ", ("ok", "green"), ", ")
        if self.stacks:
            counts += f", {_counted(len(self.stacks), 'stack')}"
        shown.append(counts)
        if self.cautions:
            shown.append(", ").append(_counted(len(self.cautions), "warning"), style="yellow")
        output().print(shown, soft_wrap=True)
        for name, missing in self.unbound.items():
            note(f"`{name}` was parsed but not bound: no default for {', '.join(f'`{each}`' for each in missing)}")


def checked(path: str, heads: Heads) -> Checked:
    """Binds everything in a file whose parameters all have defaults, also after errors in the rest."""
    try:
        program = load_program(named_file(path))
    except AttnError as error:
        return Checked(path, error=error)
    patterns, stacks = list[str](), list[str]()
    unbound: dict[str, list[str]] = {}
    wrong: dict[Diagnostic, None] = {}
    cautions = {(each.code, each.span): each for each in program.cautions}
    if not program.root.declarations:
        start = Span(program.root.span.source, 0, 0)
        cautions[NothingDeclared.code, start] = NothingDeclared(span=start)
    module, together = Module(program), Together()
    for name, subject in module.everything.items():
        missing = [parameter for parameter, default in subject.parameters.items() if default is None]
        if missing:
            unbound[name] = missing
            continue
        stack = isinstance(subject, Stack)
        try:
            warned = check_defaults(program, name, heads, together)
        except AttnError as mistakes:
            wrong |= dict.fromkeys(mistakes.diagnostics)
        else:
            (stacks if stack else patterns).append(name)
            cautions |= {(each.code, each.span): each for each in warned}
        if len(wrong) >= MOST_ERRORS or together.is_spent:
            break
    whole = AttnError(*wrong) if wrong else None
    return Checked(path, tuple(patterns), tuple(stacks), unbound, whole, tuple(cautions.values()))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def fmt(paths: Sequence[str], check: bool, diff: bool, upgrade: bool) -> int:
    """Formats files, with `upgrade` files of the language's first version.

    Returns 1 if `check` is set and a file would change, 2 if one cannot be parsed.
    """
    changed, broken = 0, False
    files = attn_files(paths)
    for path in files:
        try:
            source = _read_standard_input() if path == "-" else read_source(Path(path), path)
            text = format_file(upgraded(parse(source, FIRST_BUILDERS)) if upgrade else parse(source))
            changed += text != source.text
            _finish(source, path, text, check, diff)
        except AttnError as error:
            print_error(error)
            broken = True
    if len(files) > 1 and not diff and "-" not in files:
        output().print(f"{changed} of {len(files)} files {'would change' if check else 'changed'}", style="bold")
    return 2 if broken else int(changed > 0 and check)


def _read_standard_input() -> Source:
    return source_of("<stdin>", sys.stdin.buffer.read(LARGEST_TEXT + 1))


def _finish(source: Source, path: str, text: str, check: bool, diff: bool) -> None:
    """Writes or shows the formatted text of one file."""
    differs = text != source.text
    if diff and differs:
        _print_difference(source, text)
    if check and differs:
        output().print(f"would change {printable(path)}", markup=False, soft_wrap=True)
    if check or diff:
        return
    if path == "-":
        sys.stdout.write(text)
    elif differs:
        with writing(path):
            Path(path).write_bytes(text.encode())
        output().print(f"changed {printable(path)}", markup=False, soft_wrap=True)


def _print_difference(source: Source, text: str) -> None:
    name = printable(source.name)
    before, after = (list(filter(None, each.lines)) for each in (source, Source(name, text)))
    for line in unified_diff(before, after, name, f"{name}, formatted"):
        output().print(Text(line.rstrip("\r\n"), style=_DIFF_STYLES.get(line[0], "")), soft_wrap=True)
