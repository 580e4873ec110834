"""Every public function and method, and arguments that are right."""

import inspect

import numpy as np
import torch

import maskdsl

TEXT = """
pattern p(n = 8, size = 3) { space t[n] input w: float[heads] attend causal and backward(size) score s * w[head] }
stack two(n = 8) = 2 * p(n)
"""
FILE = "examples/language/longformer.attn"
GIVEN = {"path": FILE, "text": TEXT, "pattern": "longformer", "name": "n", "order": "by i", "gpu": "H100"}
GIVEN |= {"array": np.ones((4, 4), bool), "function": lambda b, h, q, k: q >= k, "n": 8, "queries": 8}
_MASK = maskdsl.parse("pattern p(n = 8) { space t[n] attend causal }")["p"].bind()
GIVEN |= {"attention": _MASK.compile(), "masks": [_MASK]}
GIVEN |= dict.fromkeys("qkv", torch.ones(2, 1, 8, 4)) | {"starts": torch.eye(2, 8, dtype=torch.bool)}
PYTHONS = {"get"}
"""Methods that are Python's own."""


def objects() -> list[object]:
    module = maskdsl.parse(TEXT)
    mask, stack = module["p"].bind(), module.stack("two").bind()
    tiles, attention, following = mask.tiles(), mask.compile("tiled"), module["p"].compile()
    found = mask.stats(), stack.stats(), mask.field(), maskdsl.from_dense(np.ones((4, 4), bool))
    state = maskdsl.parse(
        "pattern r(n = 8) { space t[n] coord c = i // 2 route x = topk(1, dot(q, mean(k by c))) attend x and causal }"
    )["r"]
    routing = state.bind().compile("tiled").routing_state()
    given = module, module["p"], mask, module.stack("two"), stack, maskdsl.Heads(2), maskdsl.ShardScheme("zigzag")
    verdict, prepared = maskdsl.Verdict(cases=1, backends=("tiled",)), attention.prepare(w=torch.ones(1))
    q, k, v = torch.ones(3, 1, 1, 8, 4)
    step = attention.prepare_decode(q[:, :, :1], k, v, key_lengths=torch.tensor([8]), w=torch.ones(1))
    return [*given, tiles, attention, prepared, step, following, routing, verdict, *found]


def public() -> dict[str, object]:
    """The functions of the package, and the methods of what its classes are."""
    made = objects()
    classes = {name for name in maskdsl.__all__ if inspect.isclass(getattr(maskdsl, name))}
    classes -= {"AttnError", "AttnWarning"}
    assert {type(each).__name__ for each in made} == classes
    functions = {name: getattr(maskdsl, name) for name in maskdsl.__all__}
    found = {name: each for name, each in functions.items() if inspect.isfunction(each)}
    for each in made:
        for name, _ in inspect.getmembers(type(each), callable):
            own = str(getattr(getattr(type(each), name), "__module__", "")).startswith("maskdsl")
            if own and not name.startswith("_") and name not in PYTHONS:
                found[f"{type(each).__name__}.{name}"] = getattr(each, name)
    return found
