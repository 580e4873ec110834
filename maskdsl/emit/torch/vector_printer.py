"""Prints groups of tokens and their vectors, as the functions of routes that score groups read them."""

from collections.abc import Callable

import numpy as np

from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.route_text import pools, product_leaves
from maskdsl.emit.torch.route_printer import RoutePrinter
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import PAIR, Coordinate, Expression, Read, Side, substitute
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.meaning.scoring.sharing_groups import most_sharing
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import OPERATORS, Op, Type
from maskdsl.ir.routes import Scored
from maskdsl.ir.values.group_scores import Grouping, GroupScores, Product
from maskdsl.ir.values.token_vectors import (
    Elementwise,
    Multiple,
    OfGroup,
    OfToken,
    OfValue,
    Pool,
    Sum,
    TableRow,
    Vector,
    Window,
    vector_expressions,
    vector_leaves,
)


class VectorPrinter(RoutePrinter):
    """The texts of groups, and of vectors and products of groups, for one route that scores them."""

    head_counts = "queries.heads", "keys.heads"
    """The texts of the numbers of query heads and of key heads."""

    def __init__(self, plan: KernelPlan, routed: Scored) -> None:
        super().__init__(plan, routed)
        self.scored = routed
        self.stem = self.name[5:]
        self.extra: list[list[str]] = []
        """Functions of vectors and steps, printed while `find` is."""
        self.kept: dict[tuple[Side, Grouping, Grouping], str] = {}
        """The names of members of groups that are the same in every call."""
        self.others: dict[tuple[Side, Grouping], str] = {}
        """The names of groups that are not those of the scores."""

    # Groups

    def group_name(self, side: Side, grouping: Grouping) -> str:
        """The name of the groups of a side."""
        if grouping == self.scored.grouping(side):
            return f"{side}_groups"
        return self.others.setdefault((side, grouping), f"{side.letter}_groups_{len(self.others)}")

    def groups(self, grouping: Grouping, side: Side) -> str:
        if grouping.by is None:
            return f"Groups({grouping.count})"
        if self.is_each(grouping, self.sequence(side)):
            return f"{side.plural}.each()"
        has = self.having(grouping.by, self.sequence(side), f"{side.plural}.device", f"{side.plural}.values")
        text = f'{side.plural}.groups({grouping.count}, "{self.identifier(grouping)}", "{grouping.by}"'
        text += "" if has is None else f", {has}"
        return f"{text})" if grouping.span == 1 else f"{text}, span={grouping.span})"

    def is_each(self, grouping: Grouping, sequence: Sequence) -> bool:
        """Whether each token is a group of its own."""
        return grouping == Grouping("i", grouping.count) and sequence.counts is None

    def identifier(self, grouping: Grouping) -> str:
        """The name of the groups' coordinate in the module."""
        assert grouping.by is not None
        return self.plan.identifiers.get(grouping.by, grouping.by)

    def having(self, name: str, sequence: Sequence, device: str, values: str) -> str | None:
        """The text of which tokens are in groups by a coordinate; None if all are. `values` has the coordinates."""
        has, texts = sequence.having(name), []
        if not all(has):
            pairs = zip(sequence.spaces, has, strict=True)
            flags = (f"torch.full(({space.size},), {has_it}, device={device})" for space, has_it in pairs)
            texts.append(f"torch.cat([{', '.join(flags)}])")
        if sequence.counts is not None:
            texts.append(f'({values}["{self.plan.identifiers[sequence.counts]}"] > 0)')
        return " & ".join(texts) or None

    def sharing(self, side: Side, source: Grouping, target: Grouping) -> str:
        if source == target:
            return "None"
        text = ", ".join(self.group_name(side, each) for each in (source, target))
        sequence = self.sequence(side)
        coordinates = [Coordinate(Side.TOKEN, each.by) for each in (source, target) if each.by is not None]
        if trace(sequence, [*sequence.counted, *coordinates]).is_fixed:
            name = self.kept.setdefault((side, source, target), f"{side.letter}_members_{len(self.kept)}")
            text += f', {most_sharing(self.plan.mask, sequence, source, target)}, "{name}"'
        elif target == Grouping("i", sequence.length):
            text += f", {source.span}"
        return f"{side.plural}.sharing({text})"

    def wider(self, made: GroupScores) -> str:
        names = [self.group_name(side, each) for side, each in zip(PAIR, made.wider, strict=True)]
        pairs = ", ".join(f"({name}, {side.plural})" for name, side in zip(names, PAIR, strict=True))
        members = [
            self.sharing(side, source, made.grouping(side)) for side, source in zip(PAIR, made.wider, strict=True)
        ]
        candidates = f"Scored({pairs}, inputs, {{}}, None, {self.stem}_candidates)"
        return f"({candidates}, {', '.join(members)})"

    # Vectors

    def product(self, product: Product) -> str:
        """The text of a pair of vectors, or of a product of vectors of one side."""
        sides = [*product.groupings]
        left, right = self.vector(product.left), self.vector(product.right)
        if len(sides) == len(PAIR):
            left, right = (self.at_level(text, side, product) for text, side in zip((left, right), PAIR, strict=True))
            return f"({left}, {right})"
        (side,) = sides
        table = self.at_level(f"of_one({left}, {right}, queries.heads)", side, product)
        return f"{table}.transpose(-1, -2)" if side is Side.KEY else table

    def at_level(self, text: str, side: Side, product: Product) -> str:
        """The vectors or products of the groups that are scored, each from that of its coarser group."""
        grouping = product.grouping(side)
        if grouping is None or grouping == self.scored.grouping(side):
            return text
        names = [self.group_name(side, each) for each in (self.scored.grouping(side), grouping)]
        return f"taken({text}, {side.plural}.coarser({', '.join(names)}))"

    def vector(self, vector: Vector) -> str:
        """The text of vectors of groups, [batch or 1, heads or fewer, groups or 1, dim]."""
        match vector:
            case OfToken(side=side):
                return f"{side.plural}.x"
            case OfGroup():
                return self.pooled(vector)
            case OfValue():
                raise AssertionError("values are no vectors of routes")
            case _:
                return self.computed(vector, self.vector, "queries", self.first_values)

    def token_vector(self, vector: Vector) -> str:
        """The text of vectors of tokens."""
        match vector:
            case OfToken():
                return "tokens.x"
            case OfGroup() | OfValue():
                raise AssertionError("pools are of vectors of tokens")
            case _:
                return self.computed(vector, self.token_vector, "tokens", lambda _: "**tokens.read")

    def first_values(self, side: Side) -> str:
        """The values that vectors of groups read: those of the first token of each group."""
        return f"**{{**inputs, **{side.plural}.first({self.group_name(side, self.scored.grouping(side))})}}"

    def computed(
        self, vector: Vector, printed: Callable[[Vector], str], like: str, values: Callable[[Side], str]
    ) -> str:
        """The text of vectors that are computed from others, which `printed` prints, and from `values` of a side.

        They have the dtype and the device of the tokens `like`.
        """

        def value(expression: Expression) -> str:
            return self.value(expression, like, values)

        inputs = "inputs" if like == "queries" else "tokens.inputs"
        whole = not isinstance(vector, TableRow) and _differs_in_heads(vector)

        def inner(each: Vector) -> str:
            return f'whole_heads({printed(each)}, len({inputs}["head"]))' if whole else printed(each)

        match vector:
            case TableRow(input=name, indices=indices):
                plain = [each for each in indices if not isinstance(each, Window)]
                table = f'{inputs}["{self.plan.input_identifiers[name]}"]'
                return f"rows_of({', '.join([table, *map(value, plain)])}).to({like}.dtype)"
            case Multiple(factor=factor, vector=of):
                return f"({inner(of)} * {value(factor)}.to({like}.dtype).unsqueeze(-1))"
            case Sum(terms=terms):
                return f"({' + '.join(map(inner, terms))})"
            case Elementwise(op=op, operands=operands):
                texts = [
                    inner(each) if isinstance(each, Vector) else f"{value(each)}.to({like}.dtype).unsqueeze(-1)"
                    for each in operands
                ]
                if op is Op.ABSOLUTE:
                    return f"{texts[0]}.abs()"
                return f"{OPERATORS[op].torch}({', '.join(texts)})"
            case _:
                raise AssertionError(vector)

    def value(self, expression: Expression, like: str, values: Callable[[Side], str]) -> str:
        """The text of an expression over a token or a group of one side, a tensor."""
        name = f"{self.stem}_value_{len(self.extra)}"
        self.extra.append([])
        side = next((side for side in PAIR if reads(expression).names(side)), Side.QUERY)
        leaves = dict(zip(self.scored.products, product_leaves(self.scored), strict=True))
        read = [each for each in self.scored.products if each.name in reads(expression).inputs]
        expression = substitute(expression, {Read(each.name, each.indices, Type.FLOAT): leaves[each] for each in read})
        texts = {(side, each): self.plan.identifiers.get(each, each) for each in reads(expression).names(side)}
        texts |= {(leaves[each].side, leaves[each].name): leaves[each].name.replace(" ", "_") for each in read}
        self.extra[-1] = self.printed(name, expression, texts)
        products = "".join(
            f", {texts[leaves[each].side, leaves[each].name]}={self.one_sided(each, like)}" for each in read
        )
        return f"on_device({name}({values(side)}{products}), {like}.device)"

    def one_sided(self, product: Product, like: str) -> str:
        """The products of vectors of one side, [batch, heads or fewer, groups or (of `tokens`) tokens]."""
        are_tokens = like == "tokens"
        vector = self.token_vector if are_tokens else self.vector
        heads = f'len({"tokens.inputs" if are_tokens else "inputs"}["head"])'
        return f"of_one({vector(product.left)}, {vector(product.right)}, {heads})[..., 0]"

    def pooled(self, group: OfGroup) -> str:
        side, pool, number = group.side, group.pool, pools(self.scored).index(group)
        groups = self.group_name(side, Grouping(group.by, group.count, pool.span))
        vectors = f"{self.stem}_pooled_{number}"
        text = "tokens.x" if pool.of is None else self.token_vector(pool.of)
        self.extra.append([f"def {vectors}(tokens):", f"    return {text}"])
        among = "" if pool.among is None else f", among={self.stem}_among_{number}"
        return f'{side.plural}.pooled({vectors}, {groups}, "{pool.kind}"{among}{self.pool_heads(pool)})'

    def pool_heads(self, pool: Pool) -> str:
        if pool.by_key_head:
            return f", heads=shared_by({', '.join(self.head_counts)})"
        return "" if pool.heads is None else f", heads={_pool_numbers(pool.heads, self.plan.mask.heads)}"


def _differs_in_heads(vector: Vector) -> bool:
    """Whether what a vector is computed from may have other numbers of heads than queries or keys."""
    leaves = [*vector_leaves(vector)]
    shares = any(
        isinstance(each, OfGroup) and (each.pool.by_key_head or each.pool.heads is not None) for each in leaves
    )
    reads_head = any(reads(each).head for each in vector_expressions(vector))
    return (len(leaves) > 1 and (shares or any(isinstance(each, TableRow) for each in leaves))) or reads_head


def _pool_numbers(expression: Expression, heads: int) -> list[int]:
    """The number of the pool of each head."""
    numbers = evaluate(expression, lambda _: np.arange(heads), {})
    return [int(number) for number in np.broadcast_to(numbers, heads)]
