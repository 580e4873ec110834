"""Stacks: which layers there are, in which order, and which of them are one object."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.base.diagnostics import AttnError

TEXT = """
pattern local(n, size = 3, axis: axis = i) {
    space tokens[n]
    attend window(size, axis = axis)
}

pattern image(h, w, size = (3, 3)) {
    space image[y = h, x = w]
    attend window(size)
}

pattern shuffled(n, seed = 0) {
    space tokens[n]
    coord place = shuffle(i, seed)
    attend window(5, axis = place)
}

pattern packed(n, causality: bool = True) {
    space tokens[n]
    input document: int[tokens]
    attend same(document) and (causal if causality else all -> all)
}

def half(n) = n // 2
"""


def bind(layers, parameters="n = 8", **values):
    return maskdsl.parse(f"{TEXT} stack deep({parameters}) = {layers}").stack("deep").bind(**values)


def words(stack):
    """`local 8 3` for each layer."""
    return [" ".join([mask.name, *(str(value) for _, value in mask.ir.parameters)]) for mask in stack.layers]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("local(n)", ["local 8 3 i"]),
        ("local", None),
        ("2 * local(n) + local(n, 5)", ["local 8 3 i"] * 2 + ["local 8 5 i"]),
        ("2 * (local(n) + local(n, size = 5))", ["local 8 3 i", "local 8 5 i"] * 2),
        ("2 * 2 * local(n)", ["local 8 3 i"] * 4),
        ("local(half(n), axis = tokens) + 0 * local(n)", ["local 4 3 tokens"]),
        ("(n - 6) * local(size = half(6), n = n)", ["local 8 3 i"] * 2),
        ("image(n, 4, 5) + image(n, 4, (1, 5))", ["image 8 4 (5, 5)", "image 8 4 (1, 5)"]),
        ("sum(shuffled(n, seed = 2 * j) for j in 0 .. 3)", ["shuffled 8 0", "shuffled 8 2", "shuffled 8 4"]),
        ("local(n) + sum(local(n) for j in 3 .. 3)", ["local 8 3 i"]),
        ("local(n) if n < 8 else local(n, 5)", ["local 8 5 i"]),
        ("local(1 / 0) if n < 8 else local(n, 5)", ["local 8 5 i"]),
    ],
)
def test_layers(layers, expected):
    if expected is None:
        with pytest.raises(AttnError, match="needs a value for `n`"):
            bind(layers)
    else:
        assert words(bind(layers)) == expected


def test_parameters_and_chosen_layers():
    text = "depth * local(n, size) + (local(n) if wide else local(n, 1))"
    parameters = "n = 8, depth = 2, size = 5, wide: bool = True"
    assert words(bind(text, parameters)) == ["local 8 5 i"] * 2 + ["local 8 3 i"]
    assert words(bind(text, parameters, n=9, depth=0, wide=False)) == ["local 9 1 i"]
    with pytest.raises(AttnError, match="no parameter `dept`"):
        bind(text, parameters, dept=1)


def test_stacks_of_stacks():
    text = (
        "stack pair(n, first = 3) = local(n, first) + local(n, 5) stack deep(n = 6) = 2 * pair(n) + pair(n, first = 7)"
    )
    stack = maskdsl.parse(TEXT + text).stack("deep").bind()
    assert words(stack) == ["local 6 3 i", "local 6 5 i"] * 2 + ["local 6 7 i", "local 6 5 i"]
    assert stack.ir.index == (0, 1, 0, 1, 2, 1)


def test_stacks_called_alike_are_expanded_once():
    doubled = " ".join(f"stack s{k}(n) = s{k - 1}(n) + s{k - 1}(n)" for k in range(1, 30))
    text = f"stack s0(n) = 0 * local(n) {doubled} stack deep(n = 6) = local(n) + s29(n)"
    assert words(maskdsl.parse(TEXT + text).stack("deep").bind()) == ["local 6 3 i"]


def test_mistakes_inside_of_a_called_stack_say_where_it_was_called():
    text = "stack pair(n) = local(n) + local(n + 1) stack deep(n = 6) = pair(n)"
    with pytest.raises(AttnError) as raised:
        maskdsl.parse(TEXT + "stack pair(n) = 2 * lokal(n) stack deep(n = 6) = pair(n)").stack("deep").bind()
    assert "did you mean `local`?" in str(raised.value) and "in this call of `pair`" in str(raised.value)
    with pytest.raises(AttnError, match="7 tokens, where the first layer has 6"):
        maskdsl.parse(TEXT + text).stack("deep").bind()


def test_equal_layers_are_one_object():
    stack = bind("2 * local(n) + local(n, 3) + local(n, 5)")
    first, second, third, last = stack.layers
    assert first is second is third is not last and len(stack) == 4 and stack.different == (first, last)
    compiled = stack.compile()
    assert compiled[0] is compiled[2] is not compiled[3]
    x = torch.randn(1, 1, 8, 4)
    for attention, mask in zip(compiled, stack.layers, strict=True):
        scores = (x @ x.mT / 2).masked_fill(~torch.tensor(mask.dense()), float("-inf"))
        torch.testing.assert_close(attention(x, x, x), scores.softmax(-1) @ x)


def test_inputs_are_shared():
    stack = bind("3 * packed(n) + packed(n, False) + local(n)")
    assert [each.name for each in stack.inputs] == ["document"]
    document = np.arange(8) // 4
    found = stack.stats(block=(4, 4), document=document)
    parts = [mask.stats(block=(4, 4), document=document).total for mask in stack.different[:2]]
    parts.append(stack.different[2].stats(block=(4, 4)).total)
    times = (3, 1, 1)
    for name in ("pairs", "attended", "computed", "tiles", "full_tiles", "partial_tiles", "queries", "bytes"):
        summed = sum(getattr(part, name) * each for part, each in zip(parts, times, strict=True))
        assert getattr(found.total, name) == summed
    given = [{"document": document}] * 4 + [{}]
    keys = np.concatenate([mask.dense(**each).sum(axis=1) for mask, each in zip(stack.layers, given, strict=True)])
    assert found.total.median_keys == np.median(keys) and found.total.most_keys == keys.max()
    with pytest.raises(AttnError, match="no input `documents`"):
        stack.stats(documents=document)
    with pytest.raises(AttnError, match="`document` is missing"):
        stack.stats()


def test_a_module_has_patterns_and_stacks():
    module = maskdsl.parse(TEXT + "## Deep.\nstack deep(n, size = 5) = local(n, size)")
    stack = module.stack("deep")
    assert isinstance(stack, maskdsl.Stack) and list(module.stacks) == ["deep"] and "deep" not in list(module)
    assert (stack.name, stack.doc, stack.parameters) == ("deep", "Deep.", {"n": None, "size": "5"})
    assert repr(stack) == "Stack(deep(n, size))" and repr(module).endswith("packed, deep)")
    assert repr(stack.bind(n=4, heads=2)) == "BoundStack(deep(n=4, size=5), heads=2, 4 tokens, layers=1)"
    with pytest.raises(AttnError, match="`deep` is a stack"):
        maskdsl.bind.bind(module.program, "deep", {})


def test_gemma():
    stack = maskdsl.load("examples/language/gemma.attn").stack("gemma3").bind(n=300)
    assert [mask.name for mask in stack.layers] == ["local_layer"] * 5 + ["global_layer"]


@pytest.mark.parametrize("heads", [0, 1.5, True, 10_000])
def test_heads(heads):
    with pytest.raises(AttnError, match="heads"):
        bind("local(n)", heads=heads)


def test_layers_may_pool_their_keys():
    pattern = """pattern coarse(n) {
        space tokens[n]
        space boxes = mean(tokens, 4)
        queries tokens
        keys tokens ++ boxes
        attend tokens -> tokens where window(3)
        attend tokens -> boxes
    }"""
    stack = maskdsl.parse(f"{TEXT} {pattern} stack deep(n) = 2 * coarse(n) + local(n)").stack("deep").bind(n=10)
    x = torch.randn(1, 1, 10, 4)
    for attention in stack.compile():
        x = x + attention(x, x, x)
    assert x.shape == (1, 1, 10, 4)


def test_the_caller_chooses_layers():
    layers = "sum((local(n) if dense[j] == 0 else local(n, 2 * n)) for j in 0 .. len(dense))"
    assert words(bind(layers, "n = 8, dense = (0, 1)", dense=(1, 0, 0))) == ["local 8 16 i"] + ["local 8 3 i"] * 2


def test_stacks_and_patterns_are_found_by_ways_of_their_own() -> None:
    module = maskdsl.parse(TEXT + "stack deep(n = 6) = 2 * local(n)")
    assert list(module.everything) == [*module, "deep"]
    with pytest.raises(AttnError, match=r"E270.*\n(.*\n)*.*help: .*`module.stack\(.deep.\)`"):
        module["deep"]
    with pytest.raises(AttnError, match=r"E272.*no stack `depe`\n.*did you mean `deep`") as raised:
        module.stack("depe")
    assert "the stacks are `deep`" in str(raised.value)
