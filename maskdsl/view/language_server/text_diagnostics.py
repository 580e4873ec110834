"""Diagnostics of a text for editors: ranges, codes, help, and related locations."""

from collections.abc import Iterator, Sequence

from lsprotocol import types

from maskdsl.analysis.orders.binding import check_defaults
from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.source import Source, Span
from maskdsl.base.text import printable_lines
from maskdsl.bind.context.report import MOST_ERRORS, Together
from maskdsl.ir.heads import DEFAULT_HEADS
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program
from maskdsl.view.language_server.documents import Document, Lines, uri_of

_SEVERITIES = {"error": types.DiagnosticSeverity.Error, "warning": types.DiagnosticSeverity.Warning}


def diagnose(document: Document) -> list[types.Diagnostic]:
    """All errors and warnings of the text, and of its patterns and stacks at their defaults."""
    try:
        program = document.program(document.text)
    except AttnError as error:
        diagnostics = list(error.diagnostics)
        root = document.understood.root
    else:
        diagnostics = [*program.cautions, *_binding(program)]
        root = program.root
    shown: list[types.Diagnostic] = []
    for each in (_shown(each, document, root) for each in diagnostics):
        if all((each.range, each.message) != (other.range, other.message) for other in shown):
            shown.append(each)  # a call may have the same error for the query and for the key
    return shown


def _binding(program: Program) -> Iterator[Diagnostic]:
    """The errors and warnings, once each, of the patterns and stacks of the text that have defaults for everything."""
    known: dict[tuple[object, ...], Diagnostic] = {}
    together = Together()
    for declaration in program.root.declarations:
        if not isinstance(declaration, tree.PatternDeclaration | tree.StackDeclaration):
            continue
        if any(parameter.default is None for parameter in declaration.parameters):
            continue
        try:
            reported: Sequence[Diagnostic] = check_defaults(program, declaration.name.id, DEFAULT_HEADS, together)
        except AttnError as error:
            reported = error.diagnostics
        for each in reported:
            known.setdefault((each.code, each.span, each.fill(each.message)), each)
        if len(known) >= MOST_ERRORS or together.is_spent:
            break
    yield from known.values()


def _shown(diagnostic: Diagnostic, document: Document, root: tree.File) -> types.Diagnostic:
    """A diagnostic in this text: at the mistake, or at the call or `use` that leads to a mistake in another text."""
    spans = [diagnostic.span, *(note.span for note in diagnostic.notes)]
    here = next((span for span in spans if span is not None and _same(span.source, document)), None)
    if here is None:
        here = _use_of(diagnostic.span, document, root)
    message = diagnostic.fill(diagnostic.message)
    advice = [] if diagnostic.nearest is None else [f"did you mean `{diagnostic.nearest}`?"]
    advice += filter(None, [diagnostic.fill(diagnostic.help)])
    others = [(diagnostic.fill(diagnostic.label) or message, diagnostic.span)]
    others += [(note.text, note.span) for note in diagnostic.notes]
    advice += [f"note: {text}" for text, span in others if span is None and text != message]
    return types.Diagnostic(
        range=range_of(here, document.lines),
        message=printable_lines("\n".join([message, *advice])),
        severity=_SEVERITIES[diagnostic.severity],
        code=diagnostic.code,
        source="maskdsl",
        related_information=[each for text, span in others for each in _related(text, span, here, document)],
    )


def _same(source: Source, document: Document) -> bool:
    return source.name == document.name


def _use_of(span: Span | None, document: Document, root: tree.File) -> Span | None:
    """The `use` that names a file; otherwise the first one, which may lead to it through other files."""
    uses = [each for each in root.declarations if isinstance(each, tree.UseDeclaration)]
    if span is None or not uses:
        return None
    named = (each for each in uses if span.source.name.endswith(each.path.value))
    return next(named, uses[0]).path.span


def _related(
    text: str, span: Span | None, here: Span | None, document: Document
) -> Iterator[types.DiagnosticRelatedInformation]:
    if span is None or span == here:
        return
    uri = document.uri if _same(span.source, document) else uri_of(span.source)
    if uri is not None:
        location = types.Location(uri, range_of(span, Lines(span.source.text)))
        yield types.DiagnosticRelatedInformation(location, text)


def range_of(span: Span | None, lines: Lines) -> types.Range:
    """The range of a span in the protocol's units; the beginning of the text without a span."""
    start, end = (0, 0) if span is None else (span.start, span.end)
    return types.Range(types.Position(*lines.position(start)), types.Position(*lines.position(end)))
