"""Prints the functions of routes that score groups: vectors, products, scores and their steps, and selection."""

from collections.abc import Callable, Iterator

import numpy as np

from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.route_text import amongs, pools, product_leaves, terms_of_score
from maskdsl.emit.statement_printer import literal
from maskdsl.emit.torch.route_printer import RoutePrinter
from maskdsl.ir.declared.inputs import KEY_HEADS, DimensionKind, Input
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import FALSE, PAIR, Constant, Coordinate, Expression, Read, Side, substitute
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.meaning.scoring.sharing_groups import most_sharing
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import OPERATORS, Op, Type
from maskdsl.ir.routes import (
    Above,
    Route,
    Scored,
    TopCount,
    TopMass,
    pair_expressions,
    route_expressions,
    selector_argument,
)
from maskdsl.ir.values.group_scores import (
    GROUP,
    OF_ALL_HEADS,
    Extent,
    Extreme,
    Gather,
    GatherHeads,
    Grouping,
    GroupScores,
    Product,
    Softmax,
    Step,
)
from maskdsl.ir.values.token_vectors import (
    Elementwise,
    Multiple,
    OfGroup,
    OfToken,
    OfValue,
    Pool,
    PoolKind,
    Sum,
    TableRow,
    Vector,
    Window,
    vector_expressions,
    vector_leaves,
)

Names = dict[tuple[Side, str], str]


class ScoredFunctions(RoutePrinter):
    """The functions of one route that scores groups."""

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

    def functions(self) -> Iterator[list[str]]:
        routed = self.scored
        for number, expression in amongs(routed):
            yield self.among(number, expression)
        for side in PAIR:
            yield self.coordinates(side, self.coordinate_names(side))
        names = self.pair_names()
        for number, (term, _) in enumerate(terms_of_score(routed)):
            yield self.printed(f"{self.stem}_score_{number}", term, names, score=True)
        yield self.printed(f"{self.stem}_candidates", routed.candidates, names)
        if isinstance(routed, Route):
            if routed.always != FALSE:
                yield self.printed(f"{self.stem}_always", routed.always, names)
            if not self.declared.sparse:
                yield from self.chooser(routed, names)
        lines = self.find_lines()
        yield from self.extra
        yield [f"def {self.name}(queries, keys, inputs):", *(f"    {line}" for line in lines)]

    def pair_names(self) -> Names:
        """The parameters that stand for coordinates of groups, and for products."""
        names = {(each.side, each.name): f"product_{number}" for number, each in enumerate(product_leaves(self.scored))}
        names[Side.KEY, GROUP] = "k_group"
        for side in PAIR:
            for name in reads(*route_expressions(self.scored)).names(side):
                names.setdefault((side, name), f"{side.letter}_{self.plan.identifiers.get(name, name)}")
        return names

    def coordinate_names(self, side: Side) -> set[str]:
        """The coordinates that are computed for the tokens of a side."""
        read = set(reads(*route_expressions(self.scored)).names(side)) - {GROUP}
        of_groups = set(reads(*self.scored.over_token(side)).names(Side.TOKEN))
        by = {level[side is Side.KEY] for level in self.scored.levels}
        sequence = self.sequence(side)
        numbered = {each.by for each in by if each.by == "i" and not self.is_each(each, sequence)}
        counted = {each.name for each in reads(*sequence.counted).coordinates}
        return read | of_groups - {"i"} | numbered | counted | {"i"} & self.pooled_names(side)

    def pooled_names(self, side: Side) -> set[str]:
        """The coordinates that pooled vectors read of each token."""
        vectors = (each for product in self.scored.products for each in (product.left, product.right))
        leaves = (leaf for each in vectors for leaf in vector_leaves(each) if isinstance(leaf, OfGroup))
        inner = (leaf.pool.of for leaf in leaves if leaf.pool.of is not None and leaf.side is side)
        return set(reads(*(each for vector in inner for each in vector_expressions(vector))).names(side))

    def among(self, number: int, expression: Expression) -> list[str]:
        """The lines of the function that says which tokens are in the pool of this number."""
        texts = {(Side.TOKEN, name): self.plan.identifiers[name] for name in reads(expression).names(Side.TOKEN)}
        return self.printed(f"{self.stem}_among_{number}", expression, texts)

    # Selection

    def chooser(self, route: Route, names: Names) -> Iterator[list[str]]:
        """The function that selects by scores, and that of its argument where this is no constant."""
        chosen = selector_argument(route.selector)
        value = literal(chosen.value) if isinstance(chosen, Constant) else f"{self.stem}_chosen(**values)"
        if not isinstance(chosen, Constant):
            yield self.printed(f"{self.stem}_chosen", chosen, names)
            if route.selector.per is not Extent.QUERY:
                value = f'argument({value}, "{route.selector.per}")'
        match route.selector:
            case TopCount() if route.always == FALSE:
                choose = f"best(s, {value})"
            case TopCount():
                choose = f"chosen_best(s, {value}, forced)"
            case TopMass(weighs=weighs, reach=reach):
                options = "" if route.always == FALSE else ", forced"
                options += f"{', weighs=True' if weighs else ''}{'' if reach else ', reach=False'}"
                choose = f"heaviest(s, {value}{options})"
            case Above():
                choose = f"s > {value}" if route.always == FALSE else f"above(s, {value}, forced)"
        yield [f"def {self.stem}_choose(s, forced, values):", f"    return {choose}"]

    def find_lines(self) -> list[str]:
        """The lines of the function that computes the table."""
        routed = self.scored
        products = [
            f'    "product_{number}": {self.product(each)},'
            for number, each in enumerate(routed.products)
            if each.name in reads(routed.score).inputs
        ]
        scored = ["(query_groups, queries)", "(key_groups, keys)", "inputs", "products"]
        names = [", ".join(f'"product_{each}"' for each in read) for _, read in terms_of_score(routed)]
        terms = [f"    ({self.stem}_score_{number}, [{each}])," for number, each in enumerate(names)]
        scored += ["terms", f"{self.stem}_candidates"]
        heads = self.selecting_heads
        if self.tells_heads_apart:
            scored.append(f"heads={heads}")
        if isinstance(routed, GroupScores):
            if routed.wider != (routed.queries, routed.keys):
                scored.append(f"wider={self.wider(routed)}")
            steps = [f"    {self.step(*each)}," for each in self.levels_of_steps(routed)]
            rows = self.group_name(Side.QUERY, routed.result[0])
            result = [
                "steps = [" + ("]" if not steps else ""),
                *([*steps, "]"] if steps else []),
                f"table = table_of(scored, steps, queries.heads, keys.heads, {rows}.count)",
            ]
        else:
            always = "None" if routed.always == FALSE else f"{self.stem}_always"
            options = "" if routed.selector.per is Extent.QUERY else f', per="{routed.selector.per}"'
            options += ", by_head=True" if reads(selector_argument(routed.selector)).head else ""
            if heads != "queries.heads":
                scored.append(f"first={heads}")
            result = [f"table = select(scored, {heads}, {always}, {self.stem}_choose{options})"]
            if self.declared.sparse:
                result = [f"table = select_list(scored, {heads}, {routed.most})"]
        others = [f"{name} = {self.groups(grouping, side)}" for (side, grouping), name in self.others.items()]
        return [
            f"query_groups = {self.groups(routed.queries, Side.QUERY)}",
            f"key_groups = {self.groups(routed.keys, Side.KEY)}",
            *others,
            *(["products = {", *products, "}"] if products else ["products = {}"]),
            *["terms = [", *terms, "]"],
            "scored = Scored(",
            *(f"    {each}," for each in scored),
            ")",
            *result,
            f"return {self.for_heads('table')}",
        ]

    @property
    def tells_heads_apart(self) -> bool:
        """Whether pairs are told apart by head beside products of pools of some heads."""
        vectors = (each for product in self.scored.products for each in (product.left, product.right))
        leaves = (leaf for each in vectors for leaf in vector_leaves(each) if isinstance(leaf, OfGroup))
        shares = any(leaf.pool.by_key_head or leaf.pool.heads is not None for leaf in leaves)
        return shares and reads(*pair_expressions(self.scored)).head

    @property
    def declared(self) -> Input:
        """The input that the table is."""
        declared = self.plan.mask.input(self.scored.name)
        assert declared is not None
        return declared

    @property
    def heads(self) -> str:
        """The number of heads that the table has."""
        heads, key_heads = self.head_counts
        if DimensionKind.HEADS in self.declared.kinds:
            return heads
        return key_heads if any(each.text == KEY_HEADS for each in self.declared.dimensions) else "1"

    @property
    def selecting_heads(self) -> str:
        """The number of heads that are scored: of those that share what they select, the first is."""
        routed = self.scored
        alone = isinstance(routed, Route) and routed.selector.per not in OF_ALL_HEADS
        return self.heads if alone else "queries.heads"

    def for_heads(self, table: str) -> str:
        """The table with the heads that its input declares."""
        return f"{table}[:, 0]" if self.heads == "1" else f"whole_heads({table}, {self.heads})"

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

    # Steps

    def levels_of_steps(self, made: GroupScores) -> Iterator[tuple[Step, tuple[Grouping, Grouping]]]:
        """Yields the steps, each with the groups before it."""
        level = made.queries, made.keys
        for step in made.steps:
            yield step, level
            if isinstance(step, Gather):
                level = step.queries, step.keys

    def step(self, step: Step, level: tuple[Grouping, Grouping]) -> str:
        match step:
            case Softmax(per=per, among=None):
                return f'("softmax", "{per}", None)'
            case Softmax(per=per, among=among):
                assert among is not None
                name = f"{self.stem}_step_{len(self.extra)}"
                self.extra.append(self.printed(name, among, self.pair_names()))
                return f'("softmax", "{per}", {name})'
            case Extreme(kind=kind, per=per):
                return f'("{kind}", "{per}")'
            case Gather(kind=PoolKind.MAX | PoolKind.MIN as kind, queries=queries, keys=keys) if queries == level[
                0
            ] and self.gathers_tokens(level[1], keys):
                return f'("tokens", "{kind}", {self.group_name(Side.KEY, keys)})'
            case Gather(kind=kind, queries=queries, keys=keys):
                members = [
                    self.sharing(side, *each)
                    for side, each in zip(PAIR, zip(level, (queries, keys), strict=True), strict=True)
                ]
                return f'("gather", "{kind}", {", ".join(members)})'
            case GatherHeads(kind=kind, by_key_head=by_key_head):
                return f'("heads", "{kind}", {by_key_head})'

    def gathers_tokens(self, source: Grouping, target: Grouping) -> bool:
        """Whether groups of keys are gathered of single tokens, each of one group, which a call decides."""
        sequence = self.sequence(Side.KEY)
        if target.by is None or target.span > 1 or not self.is_each(source, sequence):
            return False
        return not trace(sequence, [*sequence.counted, Coordinate(Side.TOKEN, target.by)]).is_fixed

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
