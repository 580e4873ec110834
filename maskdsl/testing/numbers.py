"""Draws numbers as text: integers with every operator of the language, and floats. They are valid by construction.

Divisors are never zero, integers stay far below 64 bits, and floats stay small enough to be scores.
"""

from typing import Any

from hypothesis import strategies as st

from maskdsl.ir.facts.ranges import Range, operator_range
from maskdsl.ir.ops import OF_INTEGERS, OPERATORS, ROUNDINGS, Op
from maskdsl.testing.scope import POSITIONS, WORD, DrawnScope, DrawnTable
from maskdsl.testing.texts import Draw, Level, Piece, call, choose, infix, number

_LARGEST = 2**50
"""The largest absolute value of integers: enough that tests reveal 32-bit arithmetic."""
_LARGEST_SCORE = 30
CURVES = ("hilbert", "morton", "snake")
# No float function in a relation ever equals one of these, as backends may differ in the last digit.
_THRESHOLDS = (0.37, -0.61, 1.43, 0.0831, -2.17)


class Numbers:
    """Draws the numbers of one scope."""

    def __init__(self, draw: Draw[Any], scope: DrawnScope) -> None:
        self.draw = draw
        self.scope = scope

    # Integers

    def integer(self, depth: int) -> Piece:
        """Any integer expression."""
        if depth == 0:
            return self.leaf()
        kind = choose(
            self.draw,
            (
                "leaf",
                "sum",
                "sum",
                "divide",
                "divide",
                "multiply",
                "sign",
                "sign",
                "bound",
                "power",
                "function",
                "rounding",
                "random",
                "special",
            ),
        )
        match kind:
            case "sum":
                left, right = self.integer(depth - 1), self.integer(depth - 1)
                return infix(choose(self.draw, "-+"), left, right, Level.SUM, left.reach + right.reach)
            case "divide":
                left, right = self.integer(depth - 1), self.divisor(depth - 1)
                if self.draw(st.booleans()):  # often negative
                    other = self.leaf()
                    left = infix("-", left, other, Level.SUM, left.reach + other.reach)
                sign = choose(self.draw, ("%", "//"))
                return infix(sign, left, right, Level.PRODUCT, left.reach if sign == "//" else right.reach)
            case "multiply":
                left, right = self.integer(depth - 1), self.integer(depth - 1)
                if left.reach * right.reach > _LARGEST:
                    right = number(self.draw(st.integers(-3, 3)))
                return infix("*", left, right, Level.PRODUCT, left.reach * right.reach)
            case "sign":
                return self.signed(depth)
            case "bound":
                return self.bounded(depth)
            case "power":
                return self.power(depth)
            case "function":
                return self.function(depth)
            case "rounding":
                return self.rounding(depth)
            case "random":
                seed, argument = self.draw(st.integers(-3, 9)), self.integer(depth - 1)
                return infix("%", call("random", number(seed), argument), number(7), Level.PRODUCT, 7)
            case "special":
                return self.special(depth)
            case _:
                return self.leaf()

    def function(self, depth: int) -> Piece:
        """One of the language's other functions of integers."""
        op = choose(self.draw, [op for op in OF_INTEGERS[None] if op is not Op.RANDOM])
        operands = [self.integer(depth - 1) for _ in range(OPERATORS[op].count)]
        reach = operator_range(op, tuple(Range(-int(each.reach), int(each.reach)) for each in operands))
        return call(OPERATORS[op].function, *operands, reach=max(map(abs, reach)))

    def rounding(self, depth: int) -> Piece:
        """An integer of a float."""
        name = OPERATORS[choose(self.draw, sorted(ROUNDINGS))].function
        factor = number(choose(self.draw, (0.5, 1.5, -0.3)))
        value = self.coordinate("float") if self.draw(st.booleans()) else None
        if value is not None:  # of an input, which may be any number
            return call("clamp", call(name, infix("*", value, factor, Level.PRODUCT)), number(-4), number(9), reach=9)
        inner = self.integer(depth - 1)
        scaled = infix("*", call("float", inner), factor, Level.PRODUCT)
        return call(name, scaled, reach=2 * inner.reach)

    def signed(self, depth: int) -> Piece:
        inner = self.integer(depth - 1)
        match choose(self.draw, ("abs", "-", "-", "+")):
            case "abs":
                return call("abs", inner, reach=inner.reach)
            case sign:
                level = Level.POWER if sign == "+" else Level.SIGNED  # `++` joins spaces
                return Piece(sign + inner.at(level), Level.SIGNED, inner.reach)

    def bounded(self, depth: int) -> Piece:
        inner, other = self.integer(depth - 1), self.integer(depth - 1)
        match choose(self.draw, ("min", "max", "clamp")):
            case "clamp":
                low, high = sorted(self.draw(st.tuples(st.integers(-4, 9), st.integers(-4, 9))))
                return call("clamp", inner, number(low), number(high), reach=9)
            case name:
                return call(name, inner, other, reach=max(inner.reach, other.reach))

    def power(self, depth: int) -> Piece:
        exponent = self.draw(st.integers(0, 3))
        base = self.integer(depth - 1)
        if base.reach**exponent > _LARGEST:
            base = infix("%", base, number(5), Level.PRODUCT, 5)
        return Piece(f"{base.at(Level.ATOM)} ** {exponent}", Level.POWER, base.reach**exponent)

    def divisor(self, depth: int) -> Piece:
        """An integer whose static range excludes zero."""
        constant = number(choose(self.draw, (2, 3, 1, 5, 8, -1, -2, -3, -7)))
        kind = choose(
            self.draw, ("constant", "constant", "name", "max", "min", "remainder", "coordinate", "coordinate")
        )
        names = [name for name, value in self.scope.constants().items() if value] + [*(self.scope.parameters or ())]
        match kind:
            case "name" if names:
                return Piece(choose(self.draw, names), reach=POSITIONS)
            case "max" | "min":
                inner = self.integer(depth - 1) if depth else self.leaf()
                return call(kind, inner, number(1 if kind == "max" else -1), reach=max(inner.reach, 1))
            case "coordinate" if (coordinate := self.coordinate("int", positive=True)) is not None:
                return coordinate
            case "remainder":
                inner = infix("%", self.leaf(), number(4), Level.PRODUCT)
                return infix("+", inner, number(1), Level.SUM, 5)
            case _:
                return constant

    def leaf(self) -> Piece:
        """A constant, a coordinate, or a head."""
        names = list(self.scope.constants())
        kind = choose(self.draw, ("coordinate",) * 6 + ("constant", "constant", "name", "head"))
        match kind:
            case "coordinate":
                return self.coordinate("int") or number(0)
            case "name" if names:
                return Piece(choose(self.draw, names), reach=POSITIONS)
            case "name" if self.scope.parameters is not None:
                return choose(self.draw, tuple(self.scope.parameters.values()))
            case "head" if self.scope.world.heads > 1:
                names = ["head", "heads", *(["key_head", "key_heads"] if self.scope.world.key_heads else [])]
                return Piece(choose(self.draw, names), reach=POSITIONS)
            case _:
                return number(self.draw(st.integers(-6, 9)))

    def coordinate(self, kind: str, positive: bool = False) -> Piece | None:
        """A coordinate of this type of either token, if they have one."""
        side = "" if self.scope.token is not None else choose(self.draw, "qk")
        fitting = {name: each for name, each in self.scope.readable(side).items() if each.type == kind}
        reaches = {name: each.reach for name, each in fitting.items() if each.positive or not positive}
        if not reaches:
            return None
        name = choose(self.draw, list(reaches))
        if side and name == "i" and self.draw(st.booleans()):
            return Piece(side, reach=reaches[name])
        return Piece(f"{side}.{name}" if side else name, reach=reaches[name])

    def special(self, depth: int) -> Piece:
        """Curves, shuffles, lengths, tables of integers, and the batch entry."""
        side = "" if self.scope.token is not None else choose(self.draw, "qk")
        spaces = [self.scope.token] if self.scope.token is not None else self.scope.spaces(side)
        tables = [] if self.scope.parameters is not None else self.tables("int")
        match choose(self.draw, ("curve", "shuffle", "length", "table", "batch")):
            case "curve" if len(spaces) == 1:
                names = self.draw(st.permutations(spaces[0].names))
                count = self.draw(st.integers(1, len(names)))
                return self.curve(choose(self.draw, CURVES), side, list(names[:count]))
            case "shuffle" if spaces:
                names = ["i", *(spaces[0].names if len(spaces) == 1 else ())]
                return self.shuffle(side, names)
            case "length" if side and len(spaces) == 1:
                return call("len", self.of(side, choose(self.draw, spaces[0].names)), reach=POSITIONS)
            case "table" if tables:
                return self.read(choose(self.draw, tables), depth - 1)
            case "batch" if self.scope.parameters is None:
                return infix("%", Piece("batch"), number(2), Level.PRODUCT, 2)
            case _:
                return self.leaf()

    def curve(self, name: str, side: str, axes: list[str]) -> Piece:
        return call(name, *(self.of(side, axis) for axis in axes), reach=POSITIONS)

    def shuffle(self, side: str, names: list[str]) -> Piece:
        coordinate = self.of(side, choose(self.draw, names))
        return call("shuffle", coordinate, number(self.draw(st.integers(0, 9))), reach=POSITIONS)

    def of(self, side: str, name: str) -> str:
        return f"{side}.{name}" if side else name

    # Tables

    def tables(self, kind: str) -> list[DrawnTable]:
        """The tables of this type that can be read here; tables over queries and keys need a pair."""
        tables = [table for table in self.scope.world.tables if table.type == kind]
        return tables if self.scope.token is None else [each for each in tables if "queries" not in each.dimensions]

    def read(self, table: DrawnTable, depth: int) -> Piece:
        """An element of a table, with every index in bounds."""
        indices = [self.index(dimension, depth) for dimension in table.dimensions]
        reach = {"int": WORD, "float": 4.0, "bool": 0}[table.type]
        return Piece(f"{table.name}[{', '.join(indices)}]" if indices else table.name, reach=reach)

    def index(self, dimension: str | int, depth: int) -> str:
        match dimension:
            case "batch":
                return "batch"
            case "heads":
                return "head"
            case "queries":
                return "q"
            case "keys":
                return "k"
            case length:
                inner = self.integer(max(depth, 0))
                if self.draw(st.booleans()):
                    return infix("%", inner, number(int(length)), Level.PRODUCT).text
                return f"clamp({inner.text}, 0, {int(length) - 1})"

    # Floats

    def score(self, depth: int) -> Piece:
        """A float whose values stay small: a score, a weight, or a scale."""
        if depth == 0:
            return self.float_leaf()
        left, right = self.score(depth - 1), self.score(depth - 1)
        match choose(
            self.draw, ("leaf", "+", "-", "*", "/", "tanh", "sigmoid", "min", "max", "sqrt", "log", "**", "exp")
        ):
            case "+" | "-" as sign:
                return self.small(infix(sign, left, right, Level.SUM, left.reach + right.reach))
            case "*":
                return self.small(infix("*", left, right, Level.PRODUCT, left.reach * right.reach))
            case "/":
                divisor = number(choose(self.draw, (2.0, 0.7, -1.5)))
                return self.small(infix("/", left, divisor, Level.PRODUCT, 2 * left.reach))
            case "tanh" | "sigmoid" as name:
                return call(name, left, reach=1.0)
            case "min" | "max" as name:
                return call(name, left, right, reach=max(left.reach, right.reach))
            case "sqrt":
                inside = infix("+", call("abs", left), number(0.5), Level.SUM)
                return call("sqrt", inside, reach=left.reach + 1)
            case "log":
                inside = infix("+", call("abs", left), number(0.5), Level.SUM)
                return call("log", inside, reach=left.reach + 1)
            case "**":
                return self.small(Piece(f"{left.at(Level.ATOM)} ** 2", Level.POWER, left.reach**2))
            case "exp":
                return call("exp", call("min", left, number(1.2)), reach=4.0)
            case _:
                return self.float_leaf()

    def small(self, piece: Piece) -> Piece:
        if piece.reach <= _LARGEST_SCORE:
            return piece
        inside = infix("/", piece, number(8.0), Level.PRODUCT)
        return infix("*", number(8.0), call("tanh", inside), Level.PRODUCT, 8.0)

    def float_leaf(self) -> Piece:
        tables = self.tables("float")
        match choose(self.draw, ("constant", "coordinate", "table", "integer", "score", "name")):
            case "name" if self.scope.world.floats and self.scope.parameters is None:
                return Piece(choose(self.draw, self.scope.world.floats), reach=0.5)
            case "coordinate" if (coordinate := self.coordinate("float")) is not None:
                return coordinate
            case "table" if tables and self.scope.parameters is None:
                return self.read(choose(self.draw, tables), 1)
            case "integer":
                inner = infix("%", self.integer(2), number(5), Level.PRODUCT, 5)
                return call("float", inner, reach=5.0)
            case "score" if self.scope.score:
                return choose(
                    self.draw, (Piece("s", reach=10.0), Piece("s", reach=10.0), Piece("sqrt(dim)", reach=16.0))
                )
            case _:
                return number(choose(self.draw, (0.5, -0.25, 1.5, 2.0)))

    def threshold(self) -> Piece:
        """A float that no computed value equals."""
        return number(choose(self.draw, _THRESHOLDS))
