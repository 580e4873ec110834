"""Prints the functions of routes that score groups: scores and their steps, and selection."""

from collections.abc import Iterator

from maskdsl.emit.route_text import amongs, product_leaves, terms_of_score
from maskdsl.emit.statement_printer import literal
from maskdsl.emit.torch.vector_printer import VectorPrinter
from maskdsl.ir.declared.inputs import KEY_HEADS, DimensionKind, Input
from maskdsl.ir.expressions import FALSE, PAIR, Constant, Coordinate, Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.routes import Above, Route, TopCount, TopMass, pair_expressions, route_expressions, selector_argument
from maskdsl.ir.values.group_scores import (
    GROUP,
    OF_ALL_HEADS,
    Extent,
    Extreme,
    Gather,
    GatherHeads,
    Grouping,
    GroupScores,
    Softmax,
    Step,
)
from maskdsl.ir.values.token_vectors import OfGroup, PoolKind, vector_expressions, vector_leaves

Names = dict[tuple[Side, str], str]


class ScoredFunctions(VectorPrinter):
    """The functions of one route that scores groups."""

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
