"""Plan to a torch module that computes tiles in few large products, forward and backward, in memory linear in n."""

from collections.abc import Collection, Iterable

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch.fixed_values import fixed_functions, fixed_values
from maskdsl.emit.torch.pattern_functions import (
    coordinate_calls,
    definitions,
    helper_lines,
    pair_parameters,
    pattern_functions,
)
from maskdsl.emit.torch.pooling_function import pooling_functions
from maskdsl.emit.torch.query_functions import GUARDS, query_functions
from maskdsl.ir.mask import Normalize
from maskdsl.ir.rewrites.branches import derivatives_are_finite

_SCALE = ["@property", "def scale(self):", "    return self.dim**-0.5"]
_KEEPING = ("with_fixed", "of_one_row", "in_fewest_bytes")
_SCORE_VALUES = [
    "def score_values(self, tile):",
    "    return with_fixed(self, tile, FIXED, fixed, allowed, FIXED_READS | MASK_READS)",
    "",
]
_LEAVES = ("Leaves", "Leaf", "add_to_table")
_GATHERED_FORWARD = [
    "gathered = gathered_tiles(problem, range(len(problem.k)))",
    "problem.for_each(lambda tile: forward_gathered(problem, tile, v, out, m_i, l_i), gathered)",
]
_GATHERED_BACKWARD = [
    "",
    "def gathered_work(unit):",
    "    for tile in gathered_tiles(problem, [unit]):",
    "        backward_gathered(problem, tile, norms, delta, grad_out, grads, gradients)",
    "",
    "problem.for_each(gathered_work, range(len(problem.k)))",
]
_UNNORMALIZED = {
    "wants_sums": ["wants_sums = False"],
    "lse": ["return out, out.new_zeros(*out.shape[:3], 1)"],
    "softmax": ["p = block(s, limits, columns, 0)"],
    "result": ["if tile.group.piece:", "    target.add_(result)", "elif not direct:", "    target.copy_(result)"],
    "merge": [],
    "normalizers": [
        "# NaN for queries whose result or gradient is not finite: it reaches the pairs that attend, and no others.",
        "delta = torch.zeros_like(lse).masked_fill_(~dots.isfinite(), torch.nan)",
        "problem.poisoned = not is_finite(problem.q, problem.k, problem.v, delta)",
        "norms, grad_out = (delta,), problem.clean(grad_out)",
    ],
    "find_normalizers": [],
    "probabilities": ["p = s", "for norm in norms:", "    p.sub_(tile.queries(norm))", "block(p, limits, columns, 0)"],
    "slope": [
        "block(ds.sub_(tile.queries(delta)), limits, columns, 0)",
        "queries = problem.clean(queries)",
    ],
}
"""The holes of `codegen/tiled.py` without a softmax: the score is the probability."""
_OF_GATHERED = ("softmax", "probabilities", "slope")
"""Those of `codegen/gathered.py` that are filled alike."""


def emit_tiled(plan: KernelPlan, others: Iterable[list[str]] = (), keeps: bool = True) -> str:
    """The text of a module with `attention(q, k, v, inputs, work, ...) -> (out, lse)` and `gradients(...)`.

    `codegen/tiled.py` documents both. `others` are functions of pairs that the module has too. With `keeps`,
    what positions alone decide about scores is computed once for all calls.
    """
    pattern = [f"MASK_READS = {_set_of(pair_parameters(plan, (plan.mask.relation,)))}"]
    fixed = fixed_values(plan) if keeps else {}
    if fixed:
        pattern += [f"FIXED_READS = {_set_of(pair_parameters(plan, fixed))}", f"FIXED = [{_strings(fixed.values())}]"]
    pattern += [f"CHANGES_SCORES = {bool(plan.mask.scores) or plan.mask.scale is not None}", "", ""]
    functions = [*fixed_functions(plan, fixed), *pooling_functions(plan), *query_functions(plan), *others]
    softmax = plan.mask.normalize is not Normalize.NONE
    helpers = [*(_KEEPING if fixed else ()), *(_helpers(plan) if _adjusts(plan) else ()), *_query_helpers(plan)]
    holes: dict[str, list[str] | None] = {
        **{name: None if softmax else lines for name, lines in _UNNORMALIZED.items()},
        "header": header(plan, "tiled", "Attention over tiles in plain torch."),
        "imports": _imports(plan),
        "tiles": [*definitions("tiles"), "", ""],
        "pattern": [*pattern, *pattern_functions(plan, functions, fixed), "", ""],
        "coordinates": coordinate_calls(plan),
        "score_values": _SCORE_VALUES if fixed else None if _adjusts(plan) else [],
        "scale": _SCALE if plan.mask.scale is None else ["scale = 1"],
        "leaves": [*helper_lines(helpers), "", ""] if helpers else [],
        "gathered": [*_gathered_lines(plan), "", ""] if plan.tiles_read_lists else [],
        "gathered_forward": _GATHERED_FORWARD if plan.tiles_read_lists else [],
        "gathered_backward": _GATHERED_BACKWARD if plan.tiles_read_lists else [],
        **_forward_holes(plan),
        **_backward_holes(plan),
        **_query_holes(plan),
    }
    return fill(read_skeleton("tiled"), holes)


def _set_of(names: Collection[str]) -> str:
    """The text of a set of strings."""
    return f"{{{_strings(names)}}}" if names else "set()"


def _strings(names: Iterable[str]) -> str:
    return ", ".join(f'"{each}"' for each in names)


def _query_helpers(plan: KernelPlan) -> tuple[str, ...]:
    """The helpers that apply sinks and the factor."""
    sinks = ("with_sinks", "sink_gradient") if plan.mask.sinks else ()
    factor = ("factor_of_output", "factor_gradient") if plan.mask.factor is not None else ()
    return (*(GUARDS if plan.mask.query_values else ()), *sinks, *factor)


def _query_holes(plan: KernelPlan) -> dict[str, list[str] | None]:
    """The holes of sinks and the factor, whose values are per query, [units, heads, tokens, 1]."""
    sinks, has_factor = len(plan.mask.sinks), plan.mask.factor is not None
    values, factor, grads = f"problem.query_values[:{sinks}]", "problem.query_values[-1]", list[str]()
    grads += ["*problem.sink_grads"] if sinks else []
    grads += ["factor_grad"] if has_factor else []
    every = "[units(each.unsqueeze(-1), heads) for each in query_values(q, inputs, layout[0])]"
    sink_grads = f"problem.sink_grads = [sink_gradient(each, norms, delta) for each in {values}]"
    by_factor = [
        f"factor_grad = factor_gradient(problem, out, dots, grad_out, {factor})",
        f"grad_out = grad_out.to(problem.dtype) * {factor}",
    ]
    gradients = [
        f"grads_of_queries = [each.view(q.shape[:3]) for each in ({', '.join(grads)},)]",
        "of_queries = query_gradients(q, inputs, layout[0], wanted, grads_of_queries)",
        "grad_inputs = [of_queries.get(name, 0) + grad for name, grad in zip(leaves, grad_inputs, strict=True)]",
    ]
    return {
        **({"wants_sums": ["wants_sums = True"]} if sinks else {}),
        "query_values": [f"problem.query_values = {every}"] if grads else [],
        "sinks": [f"out, m_i, l_i = with_sinks(out, m_i, l_i, {values})"] if sinks else [],
        "factor": [f"out.mul_(factor_of_output({factor}, out))"] if has_factor else [],
        "sink_gradients": [sink_grads] if sinks else [],
        "factor_gradient": by_factor if has_factor else [],
        "query_gradients": gradients if grads else [],
    }


def _gathered_lines(plan: KernelPlan) -> list[str]:
    """The lines of `codegen/gathered.py`, for rows that gather their keys by list."""
    softmax = plan.mask.normalize is not Normalize.NONE
    alone = {**{name: _UNNORMALIZED[name] for name in _OF_GATHERED}, "result": ["tile.set_queries(out, result)"]}
    holes = {name: None if softmax else lines for name, lines in alone.items()}
    filled = fill(read_skeleton("gathered"), {"header": [], **holes, **_forward_holes(plan), **_backward_holes(plan)})
    return filled.partition("import torch\n\n")[2].splitlines()


def _adjusts(plan: KernelPlan) -> bool:
    """Whether the pattern changes scores or probabilities."""
    return bool(plan.mask.scores) or plan.mask.weight is not None or plan.mask.scale is not None


def _helpers(plan: KernelPlan) -> tuple[str, ...]:
    if plan.mask.weight is None:
        return _LEAVES
    alone = plan.mask.normalize is Normalize.NONE
    return ("counted_weight", *(("finite_weight",) if alone else ()), *_LEAVES)


def _imports(plan: KernelPlan) -> list[str]:
    if not _adjusts(plan):
        modules = ["from itertools import accumulate", "from math import prod", "from threading import local"]
        return [*modules, "", "import torch"]
    modules = ["from functools import partial", "from itertools import accumulate", "from math import prod"]
    return ["import math", *modules, "from threading import Lock, local", "", "import torch"]


def _score_lines(plan: KernelPlan, values: str) -> list[str]:
    """Statements from `s`, the products of queries and keys, to final scores."""
    lines = []
    if plan.mask.scale is not None:
        lines.append(f"s = s * scale(s, **{values})")
    if plan.mask.scores:
        lines.append(f"s = score(s, **{values}).expand_as(s)")
    return lines


def _forward_holes(plan: KernelPlan) -> dict[str, list[str] | None]:
    scores = _score_lines(plan, "values")
    if scores:
        scores.append("s = block(s.contiguous(), limits, columns, 0)")
    if _adjusts(plan):
        scores.insert(0, "values = problem.score_values(tile)")
    weight = ["p.mul_(counted_weight(weight(p, **values), p))"] if plan.mask.weight is not None else []
    return {"score": scores, "weight": weight}


def _backward_holes(plan: KernelPlan) -> dict[str, list[str] | None]:
    """The holes of the backward pass: changes of scores and of p as an autograd graph of the tile."""
    if not _adjusts(plan):
        return {"score_graph": [], "weight_graph": [], "score_gradient": []}
    weighted = plan.mask.weight is not None
    excludes = plan.mask.normalize is not Normalize.NONE and not derivatives_are_finite(plan.mask)
    score_graph = [
        "with torch.enable_grad():",
        "    leaves = Leaves(problem, tile, s.shape, limits, gradients)",
        "    s = start = s.detach().requires_grad_()",
        *(f"    {line}" for line in _score_lines(plan, "leaves.values")),
        *(["    weights = weight(start, **leaves.values).expand_as(s)"] if weighted else []),
        *(["leaves.exclude(s.detach())"] if excludes else []),
        "scores, s = s, block(s.detach().clone(), limits, columns, 0)",
    ]
    counted = "counted_weight" if plan.mask.normalize is not Normalize.NONE else "finite_weight"
    weight_graph = [
        "weight_grad = p * ds",
        f"tile_weights = {counted}(weights.detach(), p)",
        "ds.mul_(tile_weights)",
        "weighted = block(p * tile_weights, limits, columns, 0)",
    ]
    ends = "(scores, ds), (weights, weight_grad)" if weighted else "(scores, ds)"
    score_gradient = [f"ds = leaves.backward(start, {ends})"]
    return {
        "score_graph": score_graph,
        "weight_graph": weight_graph if weighted else [],
        "score_gradient": score_gradient,
    }
