"""Plan to a torch module that computes the selections of a pattern's routes, from `codegen/routing.py`.

`ir/meaning/route_meaning.py` defines in NumPy what it must compute.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan, identifier
from maskdsl.emit.route_text import amongs, product_leaves, score_of_products
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.statement_printer import literal
from maskdsl.emit.torch.pattern_functions import coordinate_function, helpers_of, separated
from maskdsl.emit.torch.pooling_function import fact_lines, number_functions, pooling_helpers
from maskdsl.emit.torch.torch_printer import TorchPrinter
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import (
    PAIR,
    Constant,
    Expression,
    Side,
    in_space,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.routes import (
    GROUP,
    Above,
    Balanced,
    Draw,
    Grouping,
    Nearest,
    Pool,
    Pools,
    Rank,
    Route,
    Routed,
    TopCount,
    TopMass,
    selector_argument,
)


def emit_routing(plan: KernelPlan) -> str:
    """The text of a module with `find(q, k, inputs)`, which returns every routed input by its identifier."""
    top = header(plan, "routing", "The selections of the pattern's routes, in plain torch.")
    return routing_module(
        plan, top, [RouteFunctions(plan, each) for each in plan.mask.routed if not isinstance(each, Draw)]
    )


def routing_module(
    plan: KernelPlan,
    top: list[str],
    selections: Iterable["RouteFunctions"],
    imports: Iterable[str] = (),
    shared: Iterable[list[str]] = (),
    types: list[str] | None = None,
) -> str:
    """The text of a module of these selections, behind the functions that they share.

    `types` are the statements that cast q and k to the type of scores; None keeps those of the skeleton.
    """
    selections = list(selections)
    pools = list(_pool_functions(plan))
    functions = [function for each in selections for function in each.functions()]
    calls: list[str] = []
    for each in selections:
        name = plan.input_identifiers[each.routed.name]
        calls.append(f'inputs["{name}"] = {each.name}(q, k, inputs)')
    return fill(
        read_skeleton("routing"),
        {
            "header": top,
            "imports": list(imports),
            "types": types,
            "pattern": [*separated([*helpers_of([*pools, *functions]), *shared, *pools, *functions]), "", ""],
            "routed": calls,
        },
    )


def _pool_functions(plan: KernelPlan) -> Iterator[list[str]]:
    """The lines of the functions that facts about pools call."""
    if any(isinstance(each, Pools) for each in plan.mask.routed):
        yield from pooling_helpers("pool_numbers", "box_numbers", "pool_facts")
        yield from number_functions(plan, plan.mask.pooled_spaces)


class RouteFunctions:
    """The functions of one selection."""

    def __init__(self, plan: KernelPlan, routed: Routed) -> None:
        self.plan = plan
        self.routed = routed
        self.name = f"find_{identifier(routed.name)}"

    def functions(self) -> Iterator[list[str]]:
        match self.routed:
            case Route() as route:
                yield from self.route(route)
            case Nearest(side=side, centroids=centroids):
                yield self.function(f"return nearest({self.vectors(side)}, {self.centroids(centroids)}.to(q.dtype))")
            case Balanced(side=side, centroids=centroids, size=size, first=first, last=last):
                yield self.function(
                    f"rows = {self.centroids(centroids)}[:, {first}:{last}].to(q.dtype)",
                    f"return members({self.vectors(side)}, rows, {size})",
                )
            case Rank() as rank:
                yield from self.rank(rank)
            case Pools(side=side, space=name, fact=fact):
                space = self.sequence(side).space(name)
                assert space is not None
                yield self.function(*fact_lines(self.plan, space, fact))

    def centroids(self, name: str) -> str:
        """The centroids of this process's heads."""
        whole, heads = self.input(name), self.plan.mask.whole
        return whole if heads is None or heads.are_all else f"{whole}[{heads.first}:{heads.first + heads.count}]"

    def function(self, *lines: str) -> list[str]:
        return [f"def {self.name}(q, k, inputs):", *(f"    {line}" for line in lines)]

    def input(self, name: str) -> str:
        return f'inputs["{self.plan.input_identifiers[name]}"]'

    def vectors(self, side: Side) -> str:
        return "q" if side is Side.QUERY else "of_heads(k, q.shape[1])"

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

    # Ranks

    def rank(self, rank: Rank) -> Iterator[list[str]]:
        sequence = self.sequence(rank.side)
        space = sequence.space(rank.space)
        assert space is not None
        keys = [in_space(key, space.name) for key in rank.keys]
        names = reads(*keys).names(Side.TOKEN)
        texts = {(Side.TOKEN, name): self.plan.identifiers[name] for name in names}
        stem = self.name[5:]
        yield self.coordinates(rank.side, names)
        for number, key in enumerate(keys):
            yield self.printed(f"{stem}_key_{number}", key, texts)
        offset = sequence.offsets[sequence.spaces.index(space)]
        declared = self.plan.mask.input(rank.name)
        assert declared is not None
        kinds = [each.kind for each in declared.dimensions]
        shape = [
            "q.shape[0]" if DimensionKind.BATCH in kinds else "1",
            "q.shape[1]" if DimensionKind.HEADS in kinds else "1",
            f"{sequence.length}",
        ]
        yield self.function(
            f"values = {{**inputs, **{stem}_{rank.side.plural}(device=q.device, **inputs)}}",
            f"keys = [{', '.join(f'{stem}_key_{number}' for number in range(len(keys)))}]",
            f"keys = [on_device(key(**values), q.device).expand({', '.join(shape)}) for key in keys]",
            f"return ranks(*(key[..., {offset} : {offset + space.size}] for key in keys))",
        )

    # Routes

    def route(self, route: Route) -> Iterator[list[str]]:
        stem = self.name[5:]
        score, chosen = score_of_products(route), selector_argument(route.selector)
        expressions = [score, route.candidates, chosen]
        texts = {(each.side, each.name): f"product_{number}" for number, each in enumerate(product_leaves(route))}
        texts |= {(Side.KEY, GROUP): "k_group"}
        names: dict[Side, set[str]] = {Side.QUERY: set(), Side.KEY: set()}
        for side in PAIR:
            names[side] |= {name for name in reads(*expressions).names(side) if (side, name) not in texts}
            texts |= {(side, name): f"{side.letter}_{self.plan.identifiers[name]}" for name in names[side]}
        for side, number, expression in amongs(route):
            names[side].update(reads(expression).names(Side.TOKEN))
            yield self.among(side, number, expression)
        for side in PAIR:
            grouping = route.grouping(side)
            if grouping.by not in (None, "i"):
                names[side].add(grouping.by)
            yield self.coordinates(side, names[side])
        yield self.printed(f"{stem}_score", score, texts, score=True)
        yield self.printed(f"{stem}_candidates", route.candidates, texts)
        if not isinstance(chosen, Constant):
            yield self.printed(f"{stem}_chosen", chosen, texts)
        yield from self.selection(route, chosen, stem)

    def among(self, side: Side, number: int, expression: Expression) -> list[str]:
        """The lines of the function that says which tokens are pooled."""
        texts = {(Side.TOKEN, name): self.plan.identifiers[name] for name in reads(expression).names(Side.TOKEN)}
        return self.printed(f"{self.name[5:]}_{side.letter}_among_{number}", expression, texts)

    def selection(self, route: Route, chosen: Expression, stem: str) -> Iterator[list[str]]:
        value = literal(chosen.value) if isinstance(chosen, Constant) else f"{stem}_chosen(**values)"
        match route.selector:
            case TopCount():
                choose, whole = f"best(s, {value})", False
            case TopMass(over_head=whole):
                choose = f"heaviest(s, {value})"
                if whole and not isinstance(chosen, Constant):
                    choose = f"heaviest(s, {value}.flatten(-2))"
            case Above():
                choose, whole = f"s > {value}", False
        yield [f"def {stem}_choose(s, values):", f"    return {choose}"]
        lines = [
            f"queries = {stem}_queries(device=q.device, **inputs)",
            f"keys = {stem}_keys(device=q.device, **inputs)",
            f"query_groups = {self.groups(route.queries, Side.QUERY)}",
            f"key_groups = {self.groups(route.keys, Side.KEY)}",
            "products = {",
            *(
                f'    "product_{number}": ({self.pooled(each.query, Side.QUERY, number, stem)},'
                f" {self.pooled(each.key, Side.KEY, number, stem)}),"
                for number, each in enumerate(route.products)
            ),
            "}",
            "return select(",
            "    q.shape[:2],",
            "    (query_groups, queries),",
            "    (key_groups, keys),",
            "    inputs,",
            "    products,",
            f"    {stem}_score,",
            f"    {stem}_candidates,",
            f"    {stem}_choose,",
            *(["    whole=True,"] if whole else []),
            ")",
        ]
        yield self.function(*lines)

    def groups(self, grouping: Grouping, side: Side) -> str:
        if grouping.by in (None, "i"):
            return f"Groups({grouping.count})"
        has = self.having(grouping.by, self.sequence(side))
        numbers = self.plan.identifiers[grouping.by]
        text = f'Groups({grouping.count}, "{grouping.by}", {side.plural}["{numbers}"]'
        return f"{text})" if has is None else f"{text}, torch.cat([{has}]))"

    def having(self, name: str, sequence: Sequence) -> str | None:
        """The text of which tokens have a coordinate; None if all do."""
        has = sequence.having(name)
        if all(has):
            return None
        pairs = zip(sequence.spaces, has, strict=True)
        return ", ".join(f"torch.full(({space.size},), {has_it}, device=q.device)" for space, has_it in pairs)

    def pooled(self, pool: Pool, side: Side, number: int, stem: str) -> str:
        if pool.kind is None:
            return self.vectors(side)
        extra = ""
        if pool.among is not None:
            extra += f", among={stem}_{side.letter}_among_{number}(**{{**inputs, **{side.plural}}})"
        if pool.by_key_head:
            extra += ", heads=shared_by(q.shape[1], k.shape[1])"
        elif pool.heads is not None:
            extra += f", heads={pool_numbers(pool.heads, self.plan.mask.heads)}"
        return f'pooled({self.vectors(side)}, {side}_groups, "{pool.kind}"{extra})'


def pool_numbers(expression: Expression, heads: int) -> list[int]:
    """The number of the pool of each head."""
    numbers = evaluate(expression, lambda _: np.arange(heads), {})
    return [int(number) for number in np.broadcast_to(numbers, heads)]
