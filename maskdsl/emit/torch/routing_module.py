"""Plan to a torch module that computes the selections of a pattern's routes, from `codegen/routing.py`.

`codegen/scores.py` and `codegen/selectors.py` have the functions of routes that score groups.

`ir/meaning/route_meaning.py` defines in NumPy what it must compute.
"""

from collections.abc import Iterable, Iterator

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch.pattern_functions import definitions, helpers_of, separated
from maskdsl.emit.torch.pooling_function import fact_lines, number_functions, pooling_helpers
from maskdsl.emit.torch.route_printer import RoutePrinter
from maskdsl.emit.torch.scored_functions import ScoredFunctions
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import (
    PAIR,
    Side,
    in_space,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.routes import Balanced, Draw, Nearest, Pools, Rank, Route, Scored
from maskdsl.ir.values.group_scores import GroupScores


def emit_routing(plan: KernelPlan) -> str:
    """The text of a module with `find(q, k, inputs)`, which returns every routed input by its identifier."""
    top = header(plan, "routing", "The selections of the pattern's routes, in plain torch.")
    return routing_module(
        plan, top, [RouteFunctions(plan, each) for each in plan.mask.routed if not isinstance(each, Draw)]
    )


def routing_module(
    plan: KernelPlan,
    top: list[str],
    selections: Iterable[RoutePrinter],
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
    calls = [f'inputs["{plan.input_identifiers[each.routed.name]}"] = {each.call}' for each in selections]
    skeletons = dict.fromkeys(name for each in selections for name in each.skeletons)
    called = [*shared, *map(definitions, skeletons)]
    return fill(
        read_skeleton("routing"),
        {
            "header": top,
            "imports": list(imports),
            "types": types,
            "pattern": [*separated([*helpers_of([*pools, *functions]), *called, *pools, *functions]), "", ""],
            "routed": calls,
        },
    )


def _pool_functions(plan: KernelPlan) -> Iterator[list[str]]:
    """The lines of the functions that facts about pools call."""
    if any(isinstance(each, Pools) for each in plan.mask.routed):
        yield from pooling_helpers("pool_numbers", "box_numbers", "pool_facts")
        yield from number_functions(plan, plan.mask.pooled_spaces)


class RouteFunctions(RoutePrinter):
    """The functions of one selection."""

    @property
    def skeletons(self) -> tuple[str, ...]:
        match self.routed:
            case Route() | GroupScores():
                return "scores", "selectors"
            case Balanced():
                return ("selectors",)
            case _:
                return ()

    def functions(self) -> Iterator[list[str]]:
        match self.routed:
            case Route() | GroupScores() as scored:
                yield from self.score(scored)
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

    @property
    def call(self) -> str:
        if not isinstance(self.routed, Scored):
            return super().call
        vectors = zip(("q", "k"), PAIR, strict=True)
        tokens = (f"Tokens({x}, {self.name[5:]}_{side.plural}, inputs)" for x, side in vectors)
        return f"{self.name}({', '.join(tokens)}, inputs)"

    def centroids(self, name: str) -> str:
        """The centroids of this process's heads."""
        whole, heads = self.input(name), self.plan.mask.whole
        return whole if heads is None or heads.are_all else f"{whole}[{heads.first}:{heads.first + heads.count}]"

    def vectors(self, side: Side) -> str:
        return "q" if side is Side.QUERY else "whole_heads(k, q.shape[1])"

    def score(self, scored: Scored) -> Iterator[list[str]]:
        """The functions of a route that scores groups."""
        yield from ScoredFunctions(self.plan, scored).functions()

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
