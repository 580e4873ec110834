"""Plan to a Triton module that computes the selections of a pattern's routes, from `codegen/selection.py`.

One kernel computes products, scores and selection of a route and stores no scores; another pools consecutive tokens.
The rest is torch, as in `emit/torch/routing_module.py`: centroids, ranks, selection over a whole head, other pools.
"""

from collections.abc import Iterator

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.route_text import amongs
from maskdsl.emit.skeleton import read_skeleton
from maskdsl.emit.torch.pattern_functions import definitions, helper
from maskdsl.emit.torch.routing_module import RouteFunctions, routing_module
from maskdsl.emit.triton.selection.route_body import RouteBody
from maskdsl.emit.triton.selection.route_names import run_size
from maskdsl.emit.triton.triton_printer import kernel_helpers
from maskdsl.ir.expressions import PAIR, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.routes import Draw, Grouping, OfInputs, Pool, Route, TopMass


def emit_selection(plan: KernelPlan) -> str:
    """The text of a module with `find(q, k, inputs)`, as that of `emit_routing`: torch and Triton only."""
    top = header(plan, "triton", "The selections of the pattern's routes, in Triton.")
    selections = [_KernelFunctions(plan, each) for each in plan.mask.routed if not isinstance(each, Draw)]
    text = read_skeleton("triton_functions")
    lines = [line for each in selections for function in each.functions() for line in function]
    widths = [helper(text, "width_of")] if any("width_of(" in line for line in lines) else []
    shared = [helper(text, "token_table"), *widths, *kernel_helpers(lines)]
    imports = ["import triton", "import triton.language as tl"]
    types = None if any(each.is_torch for each in selections) else list[str]()  # kernels take q and k as they are
    return routing_module(plan, top, selections, imports, [*shared, definitions("selection_functions")], types)


class _KernelFunctions(RouteFunctions):
    """The functions of one selection, by a kernel where it has one."""

    def route(self, route: Route) -> Iterator[list[str]]:
        yield from self.by_kernel(route) if self.has_kernel else super().route(route)

    @property
    def has_kernel(self) -> bool:
        """Whether a kernel selects: each query group of the route selects independently."""
        match self.routed:
            case Route(selector=selector):
                return not (isinstance(selector, TopMass) and selector.over_head)
            case _:
                return False

    @property
    def is_torch(self) -> bool:
        """Whether some torch operation reads vectors of queries or keys."""
        if not isinstance(self.routed, Route) or not self.has_kernel:
            return not isinstance(self.routed, OfInputs)
        sides = [side for side in PAIR if self.run_size(side) is None]
        return any(each.pool(side).kind is not None for each in self.routed.products for side in sides)

    def by_kernel(self, route: Route) -> Iterator[list[str]]:
        body = RouteBody.of(self.plan, route)
        names = {side: body.token_names(side) for side in PAIR}
        for side, number, expression in amongs(route):
            names[side].update(reads(expression).names(Side.TOKEN))
            yield self.among(side, number, expression)
        for side in PAIR:
            if names[side]:
                yield self.coordinates(side, names[side])
        yield body.text(self.name[5:]).split("\n")
        yield self.start(route, names)

    def start(self, route: Route, names: dict[Side, set[str]]) -> list[str]:
        stem = self.name[5:]
        values = {side: f"{stem}_{side.plural}(device=q.device, **inputs)" if names[side] else "{}" for side in PAIR}
        pairs = [
            f"({self.pooled(each.query, Side.QUERY, number, stem)}, {self.pooled(each.key, Side.KEY, number, stem)}),"
            for number, each in enumerate(route.products)
        ]
        return self.function(
            *(f"{side.plural} = {text}" for side, text in values.items()),
            f"query_groups = {self.groups(route.queries, Side.QUERY)}",
            f"key_groups = {self.groups(route.keys, Side.KEY)}",
            *(["pairs = [", *(f"    {pair}" for pair in pairs), "]"] if pairs else ["pairs = []"]),
            f"return {stem}_select(q, query_groups, key_groups, queries, keys, inputs, pairs)",
        )

    def groups(self, grouping: Grouping, side: Side) -> str:
        size = self.run_size(side)
        return f"Runs({grouping.count}, {size})" if size else super().groups(grouping, side)

    def run_size(self, side: Side) -> int | None:
        if isinstance(self.routed, Route) and self.has_kernel:
            return run_size(self.routed, side, self.sequence(side))
        return None

    def pooled(self, pool: Pool, side: Side, number: int, stem: str) -> str:
        """The vectors of a product; those of key heads are not repeated where nothing is pooled per query head."""
        vectors = side.letter
        if pool.kind is None and self.has_kernel:
            return vectors
        if self.run_size(side) is None:
            return super().pooled(pool, side, number, stem)
        if pool.among is None:
            return f'pooled_runs({vectors}, {side}_groups, "{pool.kind}")'
        among = f"{stem}_{vectors}_among_{number}(**{{**inputs, **{side.plural}}})"
        return f'pooled_runs({self.vectors(side)}, {side}_groups, "{pool.kind}", {among})'
