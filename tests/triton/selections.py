"""Run in a process of its own, with TRITON_INTERPRET=1: selection kernels against `ir/meaning/route_meaning.py`.

Arguments: `examples STEP`, for one in STEP of them, or `random COUNT SEED`. Prints one JSON object: of each case, the
selections that differ.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.api.verify import Case, prepared
from maskdsl.emit.plan import make_plan
from maskdsl.emit.triton.selection.selection_module import emit_selection
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Side
from maskdsl.ir.meaning.inputs import whole_arrays
from maskdsl.ir.meaning.pooling import all_tokens
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.kernels.route_finder import RouteFinder
from tests.support.random_routes import routes
from tests.support.routing_examples import CASES, EXAMPLES, HEADS, KEY_HEADS, tensors

HARD = """pattern hard(n = 60) {
    space tokens[n]
    input score: float[heads, n, n]
    input count: int[heads]
    coord turn = i * 7 % 8
    route counted = topk(count[head], score[head, q, k]) where q != 3
    route weighed = topp(0.6, score[head, q, k]) where k != q
    route high = above(0.0, score[head, q, k])
    route shared = topk(3, dot(sum(q where turn != 1 by turn), mean(k by turn, heads = key_head)))
    route first = topk(5, score[head, q, k]) where q != 3 always k % 17 == 2 and q % 4 > 0
    route forced = topk(count[head], score[head, q.turn, k.turn]) where k.turn < q.turn always k.turn == q.turn
    route higher = above(0.0, score[head, q, k]) where k < q always k == 1
    attend counted or weighed or high or shared or first or forced or higher
}"""
POOLS = """
pattern pools() {
    space tokens[40]
    space groups = mean(tokens by cluster, 24)
    input cluster: int[batch, tokens]
    coord groups.pair = groups // 2
    queries tokens
    keys groups
    route one = topk(3, dot(q, k))
    route pairs = topk(3, dot(q, mean(k by pair)))
    route drawn = draw(4, 7) where k.pair != 3
    route some = topk(1, dot(q, mean(k by pair))) where drawn or k.pair == 0
    attend one or pairs or some
}"""
WIDE = """pattern wide(n = 1101) {
    space tokens[n]
    coord chunk = i // 400
    input score: float[heads, 3, n]
    input count: int[heads, 3]
    input mass: float[3]
    route counted = topk(count[head, q.chunk], score[head, q.chunk, k]) where q.chunk != 2
    route weighed = topp(mass[q.chunk], score[head, q.chunk, k]) where k % 7 != q.chunk
    route high = above(mass[q.chunk], score[head, q.chunk, k])
    attend counted or weighed or high
}"""
SHARED = """pattern together(n = 50) {
    space tokens[n]
    coord chunk = i // 7
    route of_all = topk(2, dot(mean(q by chunk, heads = all), mean(k by chunk, heads = all)))
    route of_key_heads = topk(3, dot(sum(q by i, heads = key_head), mean(k by chunk)))
        where k.chunk <= q.chunk
    route of_heads = topp(0.5, dot(sum(q by chunk, heads = key_head), k) + dot(mean(q by chunk, heads = head // 2), k))
    route high = above(0.0, dot(mean(q by chunk, heads = all), mean(k by chunk, heads = all)))
    attend of_all or of_key_heads or of_heads or high
}"""
MOST_HELD = 2**13
"""As in `codegen/selection_functions.py`."""


def wrong(mask: maskdsl.Mask, q: Any, k: Any, inputs: dict[str, Any], dtype: torch.dtype, held: int) -> list[str]:
    """The names of the selections that differ from the meaning; the scores between them are floats, and rounded.

    Kernels hold at most `held` scores of a row, and read those of longer rows tile by tile; they store few at a time.
    """
    plan = make_plan(mask.ir)
    finder = RouteFinder.of(plan, CallStates())
    if held < MOST_HELD:
        sizes = f"MOST_STORED, MOST_HELD = {32 * held}, {held}\n"
        finder = replace(finder, emit_kernels=lambda: emit_selection(plan) + sizes)
    whole = whole_arrays(mask.ir, inputs, len(q), q.shape[-1])
    values = [torch.as_tensor(whole[each.name]) for each in mask.ir.passed]
    keys = all_tokens(mask.ir, Side.KEY, k, whole)
    found = finder.find(torch.as_tensor(q).to(dtype), torch.as_tensor(keys).to(dtype), values, by_kernels=True)
    expected = with_routes(mask.ir, inputs, q, k)
    return [
        each.name
        for each, x in zip(finder.declared, found, strict=True)
        if not x.is_floating_point() and not np.array_equal(x.numpy(), np.broadcast_to(expected[each.name], x.shape))
    ]


def examples(step: int) -> Iterator[tuple[str, list[str]]]:
    """Of one batch entry."""
    for number, (file, name, parameters) in list(enumerate(CASES))[::step]:
        mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=HEADS, key_heads=KEY_HEADS, **parameters)
        q, k, _, inputs = tensors(mask.ir, 3)
        batched = {each.name for each in mask.ir.given if each.dimensions[0].kind is DimensionKind.BATCH}
        own = {each: value[:1] if each in batched else value for each, value in inputs.items()}
        yield f"{name} {number}", wrong(mask, q[:1], k[:1], own, torch.float32, 16 if number % 8 == 0 else MOST_HELD)


def scores(*shape: int) -> Any:
    """Scores with ties, infinities and NaN; the second row has NaN and minus infinity alone."""
    values = np.array([-1.0, -0.0, 0.0, 1.0, 1.5, np.nan, -np.inf, np.inf])
    drawn = np.random.default_rng(5).choice(values, shape, p=[0.1, 0.2, 0.2, 0.2, 0.1, 0.1, 0.09, 0.01])
    drawn[..., 1, :] = np.where(drawn[..., 1, :] > 0, np.nan, -np.inf)
    return drawn


def hard(held: int) -> list[str]:
    """Counts of any sign."""
    mask = maskdsl.parse(HARD)["hard"].bind(heads=2)
    inputs = {"score": scores(2, 60, 60), "count": np.array([-3, 9])}
    return wrong(mask, *np.random.default_rng(5).normal(size=(2, 1, 2, 60, 16)), inputs, torch.float32, held)


def wide(held: int) -> list[str]:
    """More than 1,024 groups of keys; counts and masses of each query group."""
    mask = maskdsl.parse(WIDE)["wide"].bind(heads=2)
    count = np.array([[700, 5, 8], [2000, 0, 3]])
    mass = np.array([0.93, 0.5, 0.0])
    inputs = {"score": scores(2, 3, 1101), "count": count, "mass": mass}
    return wrong(mask, *np.zeros((2, 1, 2, 1101, 16)), inputs, torch.float32, held)


def together(held: int) -> list[str]:
    """Scores that are equal for all heads, or for those of a key head; sums of products of different pools of heads."""
    mask = maskdsl.parse(SHARED)["together"].bind(heads=6, key_heads=2)
    text = emit_selection(make_plan(mask.ir))
    assert all(f"def {each.name}_scores_kernel(" in text for each in mask.ir.routed)
    random = np.random.default_rng(5)
    q, k = random.normal(size=(2, 6, 50, 16)), random.normal(size=(2, 2, 50, 16))
    return wrong(mask, q, k, {}, torch.float64, held)


def pools() -> list[str]:
    """Groups of pools, most of which have no tokens, and groups that are drawn."""
    random = np.random.default_rng(5)
    q, k = random.normal(size=(2, 2, 2, 40, 16))
    inputs = {"cluster": random.choice([0, 1, 2, 7, 9, 12, 23, -1], (2, 40))}
    return wrong(maskdsl.parse(POOLS)["pools"].bind(heads=2), q, k, inputs, torch.float32, MOST_HELD)


def random_routes(count: int, start: int) -> dict[str, list[str]]:
    results: dict[str, list[str]] = {}

    @seed(start)
    @settings(max_examples=count, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck))
    @given(routes(), st.integers(1, 40), st.sampled_from([(1, 1), (2, 1), (4, 2)]), st.integers(0, 99), st.booleans())
    def tried(text: str, n: int, heads: tuple[int, int], number: int, small: bool) -> None:
        case = Case({"n": n}, heads=heads[0], key_heads=heads[1], batch=1 + number % 2, dim=16, seed=number)
        found = prepared(maskdsl.parse(text)["p"], case)
        assert found is not None
        mask, inputs, (q, k, _), *_ = found
        own = {each.name: inputs[each.name] for each in mask.ir.given}
        results[f"{text} {case} {small}"] = wrong(
            mask, q.numpy(), k.numpy(), own, torch.float64, 16 if small else MOST_HELD
        )

    tried()
    return results


if __name__ == "__main__":
    if sys.argv[1] == "examples":
        step = int(sys.argv[2])
        results = {**dict(examples(step)), "pools": pools()}
        cases = (hard, 16), (hard, MOST_HELD), (wide, 512), (wide, MOST_HELD), (together, 16), (together, MOST_HELD)
        results |= {f"{each.__name__} {held}": each(held) for each, held in cases[:: min(step, 2)]}
    else:
        results = random_routes(*map(int, sys.argv[2:]))
    print(json.dumps(results))
