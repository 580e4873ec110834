"""Patterns that random ones have shown to be handled wrongly once, each as small as it could be made."""

import numpy as np

from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.testing import RandomPattern
from tests.support.properties import Case

FOUND = {
    "negative operands": "space a[y = 4, x = 5] attend (q.x - k.x) // 3 + (k.y - q.y) % -4 == q.i // -7 % 5 - 3",
    "an order of the keys alone": "space a[3] space b[y = 2, x = 3] queries a keys b attend q >= k.x "
    "order by y * len(x) + x",
    "a length that some tokens lack": "space a[3] space b[y = 2, x = 3] tokens a ++ b coord c = y * len(x) + x "
    "attend b -> b where q.c <= k.c",
    "axes where guards contradict": "space a[3] space b[y = 2, x = 3] tokens a ++ b attend q <= k require 1 > 2 "
    "let close = b -> b where window((1, 3)) score s + (1.0 if close else 2.0)",
    "a let that is right where it is used": "space a[y = 3] space b[y = 4] tokens a ++ b "
    "let close = neighborhood(3, axis = y) attend b -> b and close",
    "a shuffle that is simplified away": "space a[9] attend shuffle(q.a, 3) != 4 attend all -> all",
    "a constant score": "space a[9] attend q <= k score 0.5",
    "a score without the score": "space a[9] attend q <= k score float(q - k)",
    "a constant coordinate": "space a[9] coord c = 4 attend q.c <= k",
    "a coordinate of the head": "space a[9] space b[4] tokens a ++ b coord c = head coord d = batch + 1 "
    "attend q.c % 2 == k.d % 2",
    "names of helper functions": "space a[9] attend (q + 1) ** 2 % 3 == (k + 1) ** 2 % 3",
    "a score of one token": "space a[9] attend all -> all score 0.5 * s score float(q % 5)",
    "a constant coordinate in a score": "space a[9] coord c = 4 attend q <= k score float(q.c % 3) weight float(k.c)",
    "functions of tokens and of pairs": "space a[9] coord c = ilog2(a) coord d = 1 if is_power_of_two(a) else 0 "
    "attend ilog2(q - k) <= k.c or is_power_of_two(q.d + k) order by random(1, i)",
    "gradients of what one token has": "space a[y = 3, x = 2] input gate: float[tokens] attend q.y == k.y "
    "score s + k.gate weight q.gate",
}


def found_case(body: str, block: tuple[int, int], dim: int = 4):
    """A case, and q, k and v for it."""
    pattern = RandomPattern(f"pattern random_pattern() {{ {body} }}", heads=2)
    mask = pattern.bind().ir
    case = Case(pattern, mask, synthetic_inputs(mask, batch=2), 2, block)
    random = np.random.default_rng(0)
    q, k, v = (random.normal(size=(2, 2, side.length, dim)) for side in (mask.queries, mask.keys, mask.keys))
    return case, q, k, v
