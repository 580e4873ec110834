"""Plan to the torch module beside the kernel of `codegen/native.c`: that of the tiled backend, and what scores read."""

from collections.abc import Iterable

from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.pattern_functions import function_of_pairs, helper_lines, pair_parameters
from maskdsl.emit.torch.query_functions import GUARDS
from maskdsl.emit.torch.tiled_module import emit_tiled
from maskdsl.ir.expressions import Expression
from maskdsl.ir.rewrites.score_bias import values_of_positions
from maskdsl.ir.rewrites.score_terms import ScoreTerms, TermKind


def emit_native(plan: KernelPlan) -> str:
    """The text of a module as `emit_tiled` makes it, whose pair functions make the masks and biases of panels.

    `PAIR_TERMS` return what scores add to products or read beside them, from the parameters `PAIR_READS`, and
    `POSITION_FUNCTIONS` the values of pairs that decide it. `QUERY_TERMS` and `KEY_TERMS` read one token.
    """
    bias, terms = plan.score_bias, plan.score_terms
    if terms is not None:
        return _with_functions(
            plan, *_functions_of_terms(plan, terms), [each.value for each in terms.of(TermKind.PAIR)]
        )
    if bias is None or not plan.mask.scores:
        return emit_tiled(plan)
    return _with_functions(plan, [], ["PAIR_TERMS = (score,)"], plan.mask.scores, bias.positions)


def _with_functions(
    plan: KernelPlan,
    functions: list[list[str]],
    constants: list[str],
    of_pairs: Iterable[Expression],
    positions: tuple[Expression, ...] | None = None,
) -> str:
    """The module with these functions and constants, and with those of the positions of pairs."""
    of_pairs = tuple(of_pairs)
    if positions is None:
        positions = tuple(dict.fromkeys(value for each in of_pairs for value in values_of_positions(each)))
    text = "A value of the positions of a pair: where it is the same, so is what scores read of the pair."
    names = [f"position_{number}" for number in range(1, len(positions) + 1)]
    functions += [function_of_pairs(plan, name, text, (each,)) for name, each in zip(names, positions, strict=True)]
    read = ", ".join(f'"{name}"' for name in pair_parameters(plan, of_pairs))
    constants += [f"PAIR_READS = {{{read}}}" if read else "PAIR_READS = set()", _tuple("POSITION_FUNCTIONS", names)]
    guards = [] if plan.mask.query_values else [helper_lines(GUARDS)]
    return emit_tiled(plan, [*guards, *functions, constants], keeps=False)


def _functions_of_terms(plan: KernelPlan, terms: ScoreTerms) -> tuple[list[list[str]], list[str]]:
    """A function for each term, and the constants that list them."""
    functions, constants = list[list[str]](), list[str]()
    for kind in TermKind:
        names = [f"{kind}_{number}" for number in range(1, len(terms.of(kind)) + 1)]
        text = f"What scores or weights read of a {kind}, in the type of `s`."
        functions += [
            function_of_pairs(plan, name, text, (each.value,)) for name, each in zip(names, terms.of(kind), strict=True)
        ]
        constants.append(_tuple(f"{kind.upper()}_TERMS", names))
    return functions, constants


def _tuple(name: str, values: list[str]) -> str:
    return f"{name} = ({', '.join(values)},)" if values else f"{name} = ()"
