"""What scores read of pairs that positions alone decide: functions of tiled modules compute it once for many calls."""

from collections.abc import Mapping

from maskdsl.emit.plan import KernelPlan, unused
from maskdsl.emit.torch.pattern_functions import pair_parameters, pair_printer
from maskdsl.ir.expressions import Apply, Constant, Coordinate, Expression, Read, children, walk
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import token_trace
from maskdsl.ir.ops import Type

_MANY = 4
"""With so many operations a pair, reading a kept value takes less time. Those of indices into tables count as many."""


def fixed_values(plan: KernelPlan) -> dict[Expression, str]:
    """Names of the largest integers and truth values among scores, weight and scale that positions alone decide."""
    largest: dict[Expression, None] = {}
    pending = [(each, False) for each in reversed(plan.mask.pair_values)]
    while pending:
        node, is_index = pending.pop()
        if _is_fixed(plan, node) and (is_index or sum(isinstance(each, Apply) for each in walk(node)) >= _MANY):
            largest.setdefault(node)
        else:
            pending += [(each, isinstance(node, Read)) for each in reversed(children(node))]
    names: dict[Expression, str] = {}
    for number, node in enumerate(largest, 1):
        names[node] = unused(f"fixed_{number}", {*names.values(), *plan.input_identifiers.values()})
    return names


def fixed_functions(plan: KernelPlan, fixed: Mapping[Expression, str]) -> list[list[str]]:
    """The lines of the function `fixed`, which returns these values of pairs; none for no values."""
    if not fixed:
        return []
    parameters = pair_parameters(plan, fixed)
    printer = pair_printer(plan, parameters, relation=True)
    for node, name in fixed.items():
        printer.assign(name, node)
    lines = [*printer.lines, f"return [{', '.join(fixed.values())}]"]
    text = "What scores read of a pair that positions alone decide."
    return [[f"def fixed({', '.join([*parameters, '**_'])}):", f'    """{text}"""', *(f"    {line}" for line in lines)]]


def _is_fixed(plan: KernelPlan, node: Expression) -> bool:
    if not isinstance(node, Apply) or node.type is Type.FLOAT or not reads(node).is_of_pair:
        return False
    leaves = (each for each in walk(node) if not isinstance(each, Apply | Constant))
    return all(isinstance(each, Coordinate) for each in leaves) and token_trace(plan.mask, [node]).is_fixed
