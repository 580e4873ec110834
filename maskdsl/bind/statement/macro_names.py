"""Checks the names that macros declare, whether the macros are called or not."""

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.bind.context.frame import Declared, Frame, SideDeclared, StatementKind
from maskdsl.bind.context.report import Report
from maskdsl.bind.expression.functions import FUNCTIONS
from maskdsl.bind.statement.parameters import check_name, check_number
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.heads import Heads
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program


def macro_mistakes(program: Program) -> tuple[Diagnostic, ...]:
    """Errors of macros named like functions, and of reserved or repeated names in them. Computed once a program."""
    if macro_mistakes not in program.kept:
        nothing, report = SideDeclared(Sequence(())), Report()
        frame = Frame(Declared(program, Heads(1), nothing, nothing), report, StatementKind.CONSTANT, {})
        try:
            for file in program.files:
                for macro in file.declarations:
                    if isinstance(macro, tree.MacroDeclaration):
                        _check_macro(macro, frame)
        except AttnError:  # the report is full
            pass
        program.kept[macro_mistakes] = tuple(report.errors.values())
    mistakes: tuple[Diagnostic, ...] = program.kept[macro_mistakes]
    return mistakes


def _check_macro(macro: tree.MacroDeclaration, frame: Frame) -> None:
    check_number(macro.parameters, "parameters", frame)
    check_number(macro.lets, "`let`s", frame)
    check_name(macro.name, FUNCTIONS, frame, "a function of the language")
    seen: dict[str, None] = {}
    for name in (*(each.name for each in macro.parameters), *(each.name for each in macro.lets)):
        check_name(name, seen, frame, "a parameter or `let`")
        seen[name.id] = None
