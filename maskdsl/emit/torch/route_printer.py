"""Prints the functions of routes: of coordinates, and of expressions over tokens or groups."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from maskdsl.emit.plan import KernelPlan, identifier
from maskdsl.emit.statement_printer import literal
from maskdsl.emit.torch.pattern_functions import coordinate_function
from maskdsl.emit.torch.torch_printer import TorchPrinter
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import Constant, Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.routes import Routed


class RoutePrinter(ABC):
    """Prints what the functions of all routes are made of."""

    def __init__(self, plan: KernelPlan, routed: Routed) -> None:
        self.plan = plan
        self.routed = routed
        self.name = f"find_{identifier(routed.name)}"

    @property
    def skeletons(self) -> tuple[str, ...]:
        """The skeletons whose functions its own call, but for that of all modules of routes."""
        return ()

    @abstractmethod
    def functions(self) -> Iterator[list[str]]:
        """Yields the lines of each function."""

    @property
    def call(self) -> str:
        """The text that calls the function of the result."""
        return f"{self.name}(q, k, inputs)"

    def function(self, *lines: str) -> list[str]:
        return [f"def {self.name}(q, k, inputs):", *(f"    {line}" for line in lines)]

    def input(self, name: str) -> str:
        return f'inputs["{self.plan.input_identifiers[name]}"]'

    # Coordinates

    def sequence(self, side: Side) -> Sequence:
        return self.plan.mask.sequences[side]

    def coordinates(self, side: Side, names: Iterable[str]) -> list[str]:
        """The lines of the function that computes these coordinates of one side's tokens."""
        name = f"{self.name[5:]}_{side.plural}"
        return coordinate_function(self.plan, self.plan.mask.kind(side), self.sequence(side), sorted(names), name)

    def printed(
        self, name: str, expression: Expression, coordinates: dict[tuple[Side, str], str], score: bool = False
    ) -> list[str]:
        """The lines of a function `name` that computes an expression; `coordinates` are the names of its parameters.

        Floats are float64; those of a score have the type of `s`.
        """
        read = reads(expression)
        parameters = [
            *["s"] * score,
            *sorted({coordinates[side, name] for side in Side for name in read.names(side)}),
            *["head"] * read.head,
            *["batch"] * read.batch,
            *sorted({self.plan.input_identifiers[name] for name in read.inputs}),
        ]
        printer = TorchPrinter(
            coordinates=lambda side, each: coordinates[side, each],
            inputs=self.plan.input_identifiers,
            sequences=self.plan.mask.sequences,
            relation=not score,
            taken=parameters,
        )
        if isinstance(expression, Constant):
            printer.lines.append(f"return torch.tensor({literal(expression.value)})")
        else:
            printer.result(expression)
        return [f"def {name}({', '.join([*parameters, '**_'])}):", *(f"    {line}" for line in printer.lines)]
