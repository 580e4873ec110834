"""The code of kernels of decoding that lists the blocks of keys that may have pairs, several at a time."""

from functools import cached_property

from maskdsl.base.records import dataclass
from maskdsl.emit.skeleton import words_of
from maskdsl.emit.triton.block_bounds import HEAD, BoundNames, ends
from maskdsl.emit.triton.decoding.decode_body import EXTREMES, DecodeBody, DecodeNames
from maskdsl.emit.triton.token_coordinates import LISTED, KernelNames
from maskdsl.ir.expressions import TRUE, Coordinate, Head, Leaf, Side
from maskdsl.ir.facts.bounds import ANYTHING, Bounder, Bounds
from maskdsl.ir.mask import Normalize
from maskdsl.ir.ops import Type

_AS_SCORES = 'row_bits |= (m_i[:, None] > float("inf")).to(tl.int64)  # nothing: registers hold rows as those of scores'
_POSSIBLE = "possible = listed < live_end"
_POSSIBLE_OF_TILE = ["possible = tl.load(tile_bits + listed, mask=listed < live_end, other=0) != 0"]


@dataclass(frozen=True)
class _ListedNames(DecodeNames):
    """The names of a kernel, with others for coordinates of the keys of listed blocks."""

    @cached_property
    def coordinates(self) -> dict[tuple[Side, str], str]:
        of_pairs = DecodeNames(self.plan).coordinates
        return {each: f"{LISTED}{text}" if each[0] is Side.KEY else text for each, text in of_pairs.items()}

    @cached_property
    def token_names(self) -> frozenset[str]:
        return KernelNames(self.plan).token_names


@dataclass(frozen=True)
class ListedBody(DecodeBody):
    """The code that lists those of several blocks that may have pairs. Coordinates of their keys are [keys, blocks]."""

    @cached_property
    def names(self) -> KernelNames:
        return _ListedNames(self.plan)

    @property
    def blocks(self) -> int:
        """How many are listed at a time: half as many where each row looks at them, which takes registers."""
        return 64 if self.condition is None else 32

    def values_prefix(self, side: Side) -> str:
        return LISTED if side is Side.KEY else super().values_prefix(side)

    def token_positions(self, side: Side) -> str:
        return "listed_positions" if side is Side.KEY else super().token_positions(side)

    def loaded(self, side: Side, name: str, table: str) -> str:
        """The load of a coordinate of keys; where heads differ, from the table of one head."""
        head = "(key_head * heads_per_key_head + member).to(tl.int64)"
        by_head = f" + {head} * {table}_head_stride" if self.varies(side, name) else ""
        return f"tl.load({table}{by_head} + listed_positions)"

    def list_lines(self, by_bounds: bool) -> list[str]:
        """Statements that list blocks by bits of pairs, or by the bounds of the relation; none if all are possible."""
        bounds = self.bound_lines() if by_bounds else []
        if not (bounds or self.has_pairs):
            return []
        lines = [
            f"listed = (first_listed + splits * tl.arange(0, {self.blocks}))[None, :]",
            *self.of_one(_POSSIBLE_OF_TILE, bounds or [_POSSIBLE]),
            "bits, listed_count = as_bits(possible)",
        ]
        return [
            f"# Of {self.blocks} blocks at a time, bits say which may have pairs; one loop goes through these.",
            f"for first_listed in range(live_start + split, live_end, splits * {self.blocks}):",
            *(f"    {line}" for line in lines),
        ]

    def bound_lines(self) -> list[str]:
        """Statements for which of the listed blocks are possible by bounds; none if these exclude no block."""
        bound = Bounder(_ends_over_heads, self.names.leaf).bounds(self.relation).high
        if bound == TRUE:
            return []
        printer = BoundNames(self.names).printer(taken=self.names.coordinates.values())
        printer.statement("possible &= ", bound)
        conditions = self.condition_lines(words_of("\n".join(printer.lines)))
        used = words_of("\n".join([*printer.lines, *conditions]))
        return [*self.key_extremes(used), _POSSIBLE, *conditions, *printer.lines]

    def condition_lines(self, used: set[str]) -> list[str]:
        """Statements that evaluate the condition of the listed blocks for each row: bits of rows, and of any row."""
        if self.condition is None:
            return []
        of_keys = {each: f"{text}_low" for each, text in self.names.coordinates.items() if each[0] is Side.KEY}
        names = {**self.names.coordinates, **of_keys}
        printer = self.printer(relation=True, prefix=LISTED)
        without_softmax = self.plan.mask.normalize is Normalize.NONE
        printer.coordinates = lambda side, name: names[side, name]
        printer.statement("in_blocks &= ", self.condition.condition)
        return [
            "in_blocks = possible",
            *printer.lines,
            "row_bits, any_bits = bits_of_rows(in_blocks)",
            *([] if without_softmax else [_AS_SCORES]),
            *(
                f"of_block_{end} = tl.{function}(in_blocks.to(tl.int32), 0)[None, :] != 0"
                for end, function in EXTREMES
                if f"of_block_{end}" in used
            ),
        ]

    def key_extremes(self, used: set[str]) -> list[str]:
        """Statements for the minimum and maximum in each block of each coordinate that is used."""
        low = "tl.minimum(listed * KEY_BLOCK, key_length - 1)"
        high = "tl.minimum(listed * KEY_BLOCK + KEY_BLOCK, key_length) - 1"
        variables = self.names.coordinates
        i = variables[Side.KEY, "i"]
        of_positions = {"first_key": low, "last_key": high, f"{i}_low": low, f"{i}_high": high}
        lines = [f"{name} = {text}" for name, text in of_positions.items() if name in used]
        others = [
            name
            for (side, name), text in variables.items()
            if side is Side.KEY and name != "i" and used & {f"{text}_{end}" for end, _ in EXTREMES}
        ]
        if others:
            keys = "listed * KEY_BLOCK + tl.arange(0, KEY_BLOCK)[:, None]"
            lines.append(f"listed_positions = tl.minimum({keys}, key_length - 1)")
        alike = [name for name in others if not self.varies(Side.KEY, name)]
        lines += self.coordinate_lines(Side.KEY, [self.coordinate(name) for name in alike])
        for name in others:
            lines += self.extremes(name, variables[Side.KEY, name])
        return lines

    def extremes(self, name: str, text: str) -> list[str]:
        """Statements for the minimum and maximum of one coordinate in each block, and over heads where they differ."""
        is_bool = self.names.type(Side.KEY, name) is Type.BOOL
        value = f"{text}.to(tl.int32)" if is_bool else text
        if self.varies(Side.KEY, name):
            kind = "int32" if is_bool else self.names.dtype(Side.KEY, name).removeprefix("torch.")
            limit = 2 ** (int(kind.removeprefix("int")) - 1)
            lines = [
                f"{text}_low = tl.full([1, {self.blocks}], {limit - 1}, tl.{kind})",
                f"{text}_high = tl.full([1, {self.blocks}], {-limit}, tl.{kind})",
                "for member in range(heads_per_key_head):",
                *(f"    {line}" for line in self.coordinate_lines(Side.KEY, [self.coordinate(name)])),
                *(f"    {text}_{end} = tl.{f}imum({text}_{end}, tl.{f}({value}, 0)[None, :])" for end, f in EXTREMES),
            ]
        else:
            lines = [f"{text}_{end} = tl.{function}({value}, 0)[None, :]" for end, function in EXTREMES]
        return lines + [f"{text}_{end} = {text}_{end} != 0" for end, _ in EXTREMES if is_bool]

    def coordinate(self, name: str) -> Coordinate:
        return Coordinate(Side.KEY, name, self.names.type(Side.KEY, name))


def _ends_over_heads(node: Leaf) -> Bounds:
    """As `ends`, with bounds of the head. Floats have none: Triton's minimum ignores NaN."""
    match node:
        case Head():
            return Bounds(Coordinate(Side.QUERY, f"{HEAD} low"), Coordinate(Side.QUERY, f"{HEAD} high"))
        case Coordinate(type=Type.FLOAT):
            return ANYTHING[Type.FLOAT]
        case _:
            return ends(node)
