"""Plan to a module with FlexAttention's `mask_mod` and `score_mod`, from `codegen/flex.py`.

Positions are widened to 64 bits: FlexAttention's have 32, and products and hashes overflow them.
"""

from collections.abc import Iterator, Sequence

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch.pattern_functions import (
    coordinate_calls,
    coordinate_functions,
    pair_parameters,
    return_pairs,
    with_helpers,
)
from maskdsl.emit.torch.torch_printer import TorchPrinter
from maskdsl.ir.expressions import Constant, Expression, Score, Side, apply
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.ir.rewrites.branches import guard_branches
from maskdsl.ir.routes import Pools

_OUTER_NAMES = ("queries", "keys", "inputs", "layout", "heads", "device")
"""Names of the enclosing function that `mask_mod` and `score_mod` read."""
_INDICES = [
    'inputs = {**inputs, "batch": torch.arange(batch, device=device)[:, None, None]}',
    'inputs["head"] = torch.arange(heads, device=device)[:, None]',
]
_CALLS = {Side.QUERY: ("q_i", "queries", "layout[0]"), Side.KEY: ("k_i", "keys", "layout[1]")}


def emit_flex(plan: KernelPlan) -> str:
    """The text of a module with `modifications(inputs, batch, heads, device, layout)`; see `codegen/flex.py`.

    Raises `AttnError` for pooled keys, weights, routes and products of vectors, which FlexAttention cannot express.
    """
    if mistakes := list(inexpressible(plan.mask)):
        raise AttnError(*mistakes)
    mask_mod, score_mod = _mask_lines(plan), _score_lines(plan)
    reads_tables = {*plan.query_names, *plan.key_names} != {"i"}
    functions = coordinate_functions(plan, without="i") if reads_tables else []
    lines = with_helpers(functions, [mask_mod, score_mod])
    return fill(
        read_skeleton("flex"),
        {
            "header": header(plan, "flex", "The modifications of FlexAttention."),
            "functions": [*lines, "", ""] if lines else [],
            "coordinates": [*_INDICES, *(line.replace("q.device", "device") for line in coordinate_calls(plan))]
            if reads_tables
            else [],
            "mask_mod": [*mask_mod, ""],
            "score_mod": score_mod,
        },
    )


def inexpressible(mask: MaskIR) -> Iterator[Diagnostic]:
    """The errors of what FlexAttention cannot express."""
    if mask.queries.is_pooled or mask.keys.is_pooled:
        yield errors.FlexPooled(pattern=mask.name, span=mask.span)
    if mask.weight is not None:
        yield errors.FlexWeight(pattern=mask.name, span=mask.span)
    elif mask.factor is not None:
        yield errors.FlexFactor(pattern=mask.name, span=mask.span)
    if mask.sinks:
        yield errors.FlexSink(pattern=mask.name, span=mask.span)
    if not mask.has_sums:
        yield errors.FlexNormalization(pattern=mask.name, span=mask.span)
    if any(not isinstance(each, Pools) for each in mask.routed):
        yield errors.FlexRoute(pattern=mask.name, span=mask.span)
    if mask.multiplies:
        yield errors.FlexProduct(pattern=mask.name, span=mask.span)


def _mask_lines(plan: KernelPlan) -> list[str]:
    start = ["def mask_mod(batch, head, q_i, k_i):", '    """Whether the query attends the key."""']
    relation = plan.mask.relation
    if isinstance(relation, Constant):
        return [*start, f"    return batch.new_full((), {relation.value}, dtype=torch.bool)"]
    printer = _printer_of(plan, (relation,), relation=True)
    return_pairs(printer, relation)
    return [*start, *_token_lines(plan, (relation,)), *(f"    {line}" for line in printer.lines)]


def _score_lines(plan: KernelPlan) -> list[str]:
    mask = plan.mask
    scale = [] if mask.scale is None else [apply(Op.MULTIPLY, Score(), mask.scale)]
    scores = (*scale, *mask.scores)
    if not scores:
        return ["score_mod = None"]
    text = "The final score of a pair, from " + ("the product of query and key." if scale else "its scaled score.")
    printer = _printer_of(plan, scores, relation=False)
    for expression in scores:
        printer.assign_score(guard_branches(expression))
    lines = [*_token_lines(plan, scores), *(f"    {line}" for line in printer.lines), "    return s", ""]
    return ["def score_mod(s, batch, head, q_i, k_i):", f'    """{text}"""', *lines]


def _printer_of(plan: KernelPlan, expressions: Sequence[Expression], relation: bool) -> TorchPrinter:
    identifiers = plan.identifiers
    return TorchPrinter(
        coordinates=lambda side, each: f"{side.letter}_{identifiers[each]}",
        inputs={name: f'inputs["{text}"]' for name, text in plan.input_identifiers.items()},
        sequences=plan.mask.sequences,
        relation=relation,
        taken={*_OUTER_NAMES, *pair_parameters(plan, expressions)},
    )


def _token_lines(plan: KernelPlan, expressions: Sequence[Expression]) -> list[str]:
    """Statements for what a pair function reads of either token, its declared position first."""
    names = pair_parameters(plan, expressions)
    lines = []
    for sequence, (side, (position, values, layout)) in zip(plan.mask.sequences.values(), _CALLS.items(), strict=True):
        read = [name for name in names if name.startswith(f"{side.letter}_")]
        others = [name for name in read if name != position and name[2:] in plan.identifiers.values()]
        if position in read or others:
            laid_out = (
                f"token_value({layout}, batch, head, {position})" if any(sequence.order) else f"{position}.long()"
            )
            lines.append(f"{position} = {laid_out}")
        lines += [f'{name} = token_value({values}["{name[2:]}"], batch, head, {position})' for name in others]
    return [f"    {line}" for line in lines]
