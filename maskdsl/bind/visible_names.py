"""What each statement of a pattern sees: the parameters, and the `let`s above it."""

from collections.abc import Mapping
from dataclasses import replace

from maskdsl.bind.context.bound_values import BAD, Abbreviation, Value
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.statement.parameters import check_name
from maskdsl.syntax import tree


class Names:
    """Parameters and `let`s. Each statement of a pattern sees those above it."""

    def __init__(self, declaration: tree.PatternDeclaration, frame: Frame) -> None:
        self.frame = frame
        self.before: dict[int, Mapping[str, Value]] = {}
        self.lets: list[tree.LetStatement] = []
        names = dict(frame.names)
        for statement in declaration.statements:
            self.before[id(statement)] = names
            if isinstance(statement, tree.LetStatement):
                known = check_name(statement.name, names, frame, "a parameter or `let`")
                value = _let(statement, replace(frame, names=names)) if known else BAD
                names = {**names, statement.name.id: value}
                self.lets.append(statement)
        self.last: Mapping[str, Value] = names

    def of(self, branch: tree.PatternDeclaration) -> "Names":
        """The names in a branch of the pattern."""
        return Names(branch, self.frame)

    def at(self, statement: tree.Node, frame: Frame) -> Frame:
        return replace(frame, names=self.before.get(id(statement), self.last))


def _let(statement: tree.LetStatement, frame: Frame) -> Value:
    """The value of a `let` if it is known before the tokens are; otherwise an abbreviation."""
    trial = replace(frame, report=frame.report.trial())
    value = elaborate(statement.value, trial)
    return Abbreviation(statement, frame.names) if trial.report.errors else value
