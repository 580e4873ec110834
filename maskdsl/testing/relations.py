"""Draws relations as text: comparisons, the standard library, guards by spaces, quantifiers, tables, heads."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from maskdsl.ir.ops import OF_INTEGERS, OPERATORS, Type
from maskdsl.testing.numbers import Numbers
from maskdsl.testing.scope import DrawnScope
from maskdsl.testing.texts import Draw, Level, Piece, call, choose, conditional, infix, number

_COMPARISONS = ("<=", "==", "<", "!=", ">", ">=")
_BY_SIZE = ("window", "backward", "dilated", "blocks", "sinks", "strided", "fixed")
"""Macros of the standard library whose first parameter is a size and whose last is an axis."""
_MEASURED = ("neighborhood", "neighborhood_causal")


class Relations:
    """Draws the relations of one scope of pairs."""

    def __init__(self, draw: Draw[Any], scope: DrawnScope) -> None:
        self.draw = draw
        self.scope = scope
        self.numbers = Numbers(draw, scope)

    def relation(self, depth: int) -> Piece:
        kinds: list[Callable[[int], Piece | None]] = [
            self.near,
            self.library,
            self.comparison,
            self.comparison,
            self.congruence,
            self.predicate,
            self.quantified,
            self.of_inputs,
        ]
        if depth > 0:
            kinds += [self.both, self.either, self.neither, self.by_condition, self.arrow] * 2
        return choose(self.draw, kinds)(depth) or self.near(depth)

    def deeper(self, depth: int, scope: DrawnScope | None = None) -> Piece:
        return (self if scope is None else Relations(self.draw, scope)).relation(depth - 1)

    # One condition

    def near(self, depth: int) -> Piece:
        """A distance on a coordinate that both tokens have."""
        name = choose(self.draw, self.scope.on_both_sides("int"))
        difference = f"q.{name} - k.{name}" if self.draw(st.booleans()) else f"k.{name} - q.{name}"
        distance = call("abs", difference) if self.draw(st.booleans()) else Piece(difference, Level.SUM)
        sign = choose(self.draw, _COMPARISONS)
        return self.compared([distance, number(self.draw(st.integers(-2, 9)))], [sign])

    def comparison(self, depth: int) -> Piece:
        """Two or three numbers; integers, or floats that are never equal."""
        if self.draw(st.integers(0, 3)) == 0 and self.scope.parameters is None:
            left = self.numbers.score(choose(self.draw, (1, 2)))
            return self.compared([left, self.numbers.threshold()], [choose(self.draw, ("<", ">=", "<=", ">"))])
        count = self.draw(st.sampled_from([2, 2, 3]))
        operands = [self.numbers.integer(choose(self.draw, (1, 2))) for _ in range(count)]
        return self.compared(operands, [choose(self.draw, _COMPARISONS) for _ in operands[1:]])

    def compared(self, operands: list[Piece], signs: list[str]) -> Piece:
        first, *others = (each.at(Level.SUM) for each in operands)
        return Piece(
            " ".join([first, *(f"{s} {each}" for s, each in zip(signs, others, strict=True))]), Level.COMPARISON
        )

    def congruence(self, depth: int) -> Piece:
        """A quotient or remainder of a possibly negative integer, compared with a small number."""
        name = choose(self.draw, self.scope.on_both_sides("int"))
        distance = Piece(f"q.{name} - k.{name}", Level.SUM)
        dividend = distance if self.draw(st.booleans()) else self.numbers.integer(1)
        divided = infix(choose(self.draw, ("%", "//")), dividend, self.numbers.divisor(0), Level.PRODUCT)
        return self.compared([divided, number(self.draw(st.integers(-2, 3)))], [choose(self.draw, _COMPARISONS)])

    def predicate(self, depth: int) -> Piece:
        kind = choose(self.draw, ("same", "function", "function", "constant", "named", "bool"))
        match kind:
            case "same":
                names = self.scope.on_both_sides("int", "bool")
                chosen = self.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
                return call("same", *chosen)
            case "function":
                operator = OPERATORS[choose(self.draw, OF_INTEGERS[Type.BOOL])]
                return call(operator.function, *(self.numbers.integer(1) for _ in range(operator.count)))
            case "named":
                return self.named() or self.near(depth)
            case "bool":
                return self.numbers.coordinate("bool") or self.near(depth)
            case _:
                return Piece(choose(self.draw, ("True", "all -> all", "False")), Level.ARROW)

    def named(self) -> Piece | None:
        """A `let` that may be read here, or a macro of the file."""
        world = self.scope.world
        if self.scope.parameters is not None:
            return None
        lets = [each.name for each in world.relations if self.scope.pairs <= each.pairs]
        if lets and (not world.macros or self.draw(st.booleans())):
            return Piece(choose(self.draw, lets))
        if world.macros:
            return self.with_axis(choose(self.draw, world.macros), [str(self.draw(st.integers(1, 5)))])
        return None

    def of_inputs(self, depth: int) -> Piece | None:
        tables = self.numbers.tables("bool")
        if not tables or self.scope.parameters is not None:
            return None
        table = choose(self.draw, tables)
        if len(table.dimensions) == 1 and isinstance(table.dimensions[0], int) and self.draw(st.booleans()):
            return self.guarded_read(table.name, table.dimensions[0])
        return self.numbers.read(table, 1)

    def guarded_read(self, name: str, length: int) -> Piece:
        """A table that is read by a distance, guarded by its bounds."""
        axis = choose(self.draw, self.scope.on_both_sides("int"))
        middle = self.draw(st.integers(0, length - 1))
        index = f"q.{axis} - k.{axis} + {middle}"
        inside = Piece(f"0 <= {index} < {length}", Level.COMPARISON)
        return infix("and", inside, Piece(f"{name}[{index}]"), Level.AND)

    # The standard library

    def library(self, depth: int) -> Piece:
        kind = choose(self.draw, ("size", "causal", "measured", "tuple", "shape", "whole"))
        axes, measured = self.scope.common_axes(), self.scope.measured_axes()
        match kind:
            case "causal":
                return self.with_axis(choose(self.draw, ("causal", "powers")), [])
            case "measured" if measured:
                size, *others = (self.draw(st.integers(1, 5)) for _ in range(3))
                given = [str(size), *map(str, others[: self.draw(st.integers(0, 2))])]
                return call(choose(self.draw, _MEASURED), *given, f"axis = {choose(self.draw, list(measured))}")
            case "tuple" if axes and len(axes) > 1:
                name = choose(self.draw, ("window", "blocks", "backward", "dilated", *(_MEASURED if measured else ())))
                if name in _MEASURED and len(measured) < len(axes):
                    name = "window"
                sizes = [str(self.draw(st.integers(1, 5))) for _ in axes]
                known = [each for each, width in self.scope.world.tuples.items() if width == len(axes)]
                size = choose(self.draw, [*known, f"({', '.join(sizes)})"])
                return call(name, size, *([str(self.draw(st.integers(-2, 4)))] if name == "blocks" else []))
            case "shape" if axes:
                name, radius = choose(self.draw, ("ball", "diamond")), str(self.draw(st.integers(0, 4)))
                over = self.draw(st.lists(st.sampled_from(axes), min_size=1, unique=True))
                listed = over[0] if len(over) == 1 else f"({', '.join(over)})"
                return call(name, radius, *([f"over = {listed}"] if self.draw(st.booleans()) else []))
            case "whole":
                return call(choose(self.draw, ("prefix", "globals_first")), str(self.draw(st.integers(0, 6))))
            case _:
                name = choose(self.draw, _BY_SIZE)
                size = self.draw(st.integers(1, 9))
                negative = name in ("dilated", "blocks") and self.draw(st.booleans())
                return self.with_axis(name, [str(-size if negative else size)])

    def with_axis(self, name: str, given: list[str]) -> Piece:
        """A call of a macro on a coordinate that both tokens have; without one, on `i`."""
        axis = choose(self.draw, self.scope.on_both_sides("int"))
        if self.scope.parameters is None and self.draw(st.booleans()):
            return call(name, *given) if given else Piece(name)
        return call(name, *given, f"axis = {axis}")

    # Several conditions

    def both(self, depth: int) -> Piece:
        return infix("and", self.deeper(depth), self.deeper(depth), Level.AND)

    def either(self, depth: int) -> Piece:
        return infix("or", self.deeper(depth), self.deeper(depth), Level.OR)

    def neither(self, depth: int) -> Piece:
        return Piece(f"not {self.deeper(depth).at(Level.NOT)}", Level.NOT)

    def by_condition(self, depth: int) -> Piece:
        """A different relation for some heads, or for pairs with a condition."""
        if self.scope.world.heads > 1 and self.draw(st.booleans()):
            texts = ("head < heads // 2", "head % 2 == 0", "head == 0", "head + 1 == heads")
            condition = Piece(choose(self.draw, texts), Level.COMPARISON)
        else:
            condition = self.deeper(depth)
        return conditional(condition, self.deeper(depth), self.deeper(depth))

    def quantified(self, depth: int) -> Piece | None:
        axes = self.scope.common_axes()
        kind = choose(self.draw, ("any", "all", "sum")) if axes else "any of integers"
        if kind == "any of integers" or self.draw(st.booleans()):
            name, low = choose(self.draw, ("any", "all")), self.draw(st.integers(-1, 2))
            body = choose(self.draw, ("q - k == 2 ** abs(j)", "(q + j) % 3 != k % (abs(j) + 2)", "abs(q - k) != j"))
            return call(name, f"{body} for j in {low} .. {low + self.draw(st.integers(0, 3))}")
        over = choose(self.draw, ("all", f"({', '.join(axes)},)"))
        size = self.draw(st.integers(0, 4))
        if kind == "sum":
            return self.compared([call("sum", f"abs(q.a - k.a) for a in {over}"), number(size)], ["<="])
        return call(kind, f"abs(q.a - k.a) <= {size} for a in {over}")

    def arrow(self, depth: int) -> Piece | None:
        """`A -> B`, joined with a relation over the pairs that it leaves."""
        if self.scope.parameters is not None:
            return None
        queries, keys = ([space.name for space in self.scope.spaces(side)] for side in "qk")
        query, key = (choose(self.draw, [*names, "all"]) for names in (queries, keys))
        inside = frozenset(pair for pair in self.scope.pairs if query in (pair[0], "all") and key in (pair[1], "all"))
        outside = self.scope.pairs - inside
        arrow = Piece(f"{query} -> {key}", Level.ARROW)
        within = self.scope.narrowed(inside)
        match choose(self.draw, ("where", "and", "or", "if", "not", "alone")):
            case "where":
                condition = self.deeper(depth, within)
                shown = f"({condition.text})" if "->" in condition.text else condition.at(Level.AND)
                return Piece(f"{arrow.text} where {shown}", Level.CONDITIONAL)
            case "and":
                return infix("and", arrow, self.deeper(depth, within), Level.AND)
            case "or" if outside:
                return infix("or", arrow, self.deeper(depth, self.scope.narrowed(outside)), Level.OR)
            case "if" if outside:
                rest = self.deeper(depth, self.scope.narrowed(outside))
                return conditional(arrow, self.deeper(depth, within), rest)
            case "not" if outside:
                return infix(
                    "and",
                    Piece(f"not {arrow.text}", Level.NOT),
                    self.deeper(depth, self.scope.narrowed(outside)),
                    Level.AND,
                )
            case _:
                return arrow
