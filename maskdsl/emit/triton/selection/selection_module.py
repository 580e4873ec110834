"""Plan to a Triton module that computes the selections of a pattern's routes, from `codegen/selection.py`.

One kernel scores groups of a route, another selects in rows of these scores, a third pools consecutive tokens.
The rest is torch, as in `emit/torch/routing_module.py`: centroids, ranks, selection over a whole head, other pools.
"""

from collections.abc import Iterator

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.route_text import amongs, pools
from maskdsl.emit.skeleton import read_skeleton
from maskdsl.emit.torch.pattern_functions import definitions, helper
from maskdsl.emit.torch.route_printer import RoutePrinter
from maskdsl.emit.torch.routing_module import RouteFunctions, routing_module
from maskdsl.emit.torch.scored_functions import ScoredFunctions
from maskdsl.emit.triton.kernel_helpers import kernel_helpers
from maskdsl.emit.triton.selection.route_body import RouteBody
from maskdsl.emit.triton.selection.route_names import run_size
from maskdsl.ir.expressions import PAIR, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.routes import Draw, OfInputs, Route
from maskdsl.ir.values.group_scores import Grouping
from maskdsl.ir.values.token_vectors import Pool


def emit_selection(plan: KernelPlan) -> str:
    """The text of a module with `find(q, k, inputs)`, as that of `emit_routing`: torch and Triton only."""
    top = header(plan, "triton", "The selections of the pattern's routes, in Triton.")
    selections = [
        _KernelFunctions(plan, each) if isinstance(each, Route) and each.is_plain else RouteFunctions(plan, each)
        for each in plan.mask.routed
        if not isinstance(each, Draw)
    ]
    text = read_skeleton("triton_functions")
    lines = [line for each in selections for function in each.functions() for line in function]
    widths = [helper(text, "width_of")] if any("width_of(" in line for line in lines) else []
    shared = [helper(text, "token_table"), helper(text, "strides_in_units"), *widths, *kernel_helpers(lines)]
    imports = ["import triton", "import triton.language as tl"]
    in_torch = (each.is_torch if isinstance(each, _KernelFunctions) else _reads_vectors(each) for each in selections)
    types = None if any(in_torch) else list[str]()  # kernels take q and k as they are
    return routing_module(plan, top, selections, imports, [*shared, definitions("selection_functions")], types)


def _reads_vectors(functions: RoutePrinter) -> bool:
    """Whether functions in torch read vectors of queries or keys."""
    return not isinstance(functions.routed, OfInputs)


class _KernelFunctions(ScoredFunctions):
    """The functions of one selection by a kernel."""

    head_counts = "q.shape[1]", "k.shape[1]"

    def __init__(self, plan: KernelPlan, route: Route) -> None:
        super().__init__(plan, route)
        self.route = route

    def functions(self) -> Iterator[list[str]]:
        yield from self.by_kernel(self.route)

    @property
    def is_torch(self) -> bool:
        """Whether some torch operation reads vectors of queries or keys."""
        sides = [side for side in PAIR if self.run_size(side) is None]
        return any(each.pool(side).kind is not None for each in self.route.products for side in sides)

    def by_kernel(self, route: Route) -> Iterator[list[str]]:
        body = RouteBody.of(self.plan, route)
        names = {side: body.token_names(side) for side in PAIR}
        for number, expression in amongs(route):
            names[pools(route)[number].side].update(reads(expression).names(Side.TOKEN))
            yield self.among(number, expression)
        for side in PAIR:
            if names[side]:
                yield self.coordinates(side, names[side])
        yield body.text(self.name[5:]).split("\n")
        yield self.start(route, names)

    def start(self, route: Route, names: dict[Side, set[str]]) -> list[str]:
        stem = self.name[5:]
        values = {side: f"{stem}_{side.plural}(device=q.device, **inputs)" if names[side] else "{}" for side in PAIR}
        pairs = [
            f"({', '.join(self.pool_text(each.pool(side), side, number, stem) for side in PAIR)}),"
            for number, each in enumerate(route.products)
        ]
        return self.function(
            *(f"{side.plural} = {text}" for side, text in values.items()),
            f"query_groups = {self.groups(route.queries, Side.QUERY)}",
            f"key_groups = {self.groups(route.keys, Side.KEY)}",
            *(["pairs = [", *(f"    {pair}" for pair in pairs), "]"] if pairs else ["pairs = []"]),
            f"table = {stem}_select(q, query_groups, key_groups, {self.heads}, queries, keys, inputs, pairs)",
            "return table" + ("[:, 0]" if self.heads == "1" else ""),
        )

    def groups(self, grouping: Grouping, side: Side) -> str:
        size = self.run_size(side)
        if size:
            return f"Runs({grouping.count}, {size})"
        if grouping.by is None or self.is_each(grouping, self.sequence(side)):
            return f"Groups({grouping.count})"
        has = self.having(grouping.by, self.sequence(side), "q.device", side.plural)
        text = f'Groups({grouping.count}, "{grouping.by}", {side.plural}["{self.identifier(grouping)}"]'
        return f"{text})" if has is None else f"{text}, {has})"

    def run_size(self, side: Side) -> int | None:
        return run_size(self.route, side, self.sequence(side))

    def pool_text(self, pool: Pool, side: Side, number: int, stem: str) -> str:
        """The vectors of a product; those that heads share are not repeated where nothing is pooled per query head."""
        if pool.kind is None:
            return side.letter
        product = self.route.products[number]
        pool_number = pools(self.route).index(product.right if side is Side.KEY else product.left)
        among = "" if pool.among is None else f"{stem}_among_{pool_number}(**{{**inputs, **{side.plural}}})"
        if self.run_size(side) is None:
            among = among and f", among={among}"
            return f'pooled({side.letter}, {side}_groups, "{pool.kind}"{among}{self.pool_heads(pool)})'
        if not among:
            return f'pooled_runs({side.letter}, {side}_groups, "{pool.kind}")'
        return f'pooled_runs(whole_heads({side.letter}, q.shape[1]), {side}_groups, "{pool.kind}", {among})'
