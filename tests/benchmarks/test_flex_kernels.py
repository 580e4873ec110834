"""FlexAttention's kernels, rendered by the installed torch and compiled without a GPU, are counted as ours are."""

import flex_kernels
import pytest
from ahead import SHARED, is_serialized, machine_code
from assembly import kinds_of_loops, tile_loops
from beside import KEY_GRADIENT, QUERY_GRADIENT, figures, flex_call, gradient_loops, usual_loops
from flex_kernels import FlexCall, compile_flex, rendered

CAUSAL = FlexCall(lambda b, h, q, k: k <= q, None, 1024, 128)
FORWARD_OPTIONS = {"fwd_BLOCK_M": 64, "fwd_BLOCK_N": 32, "fwd_num_warps": 4, "fwd_num_stages": 2}
BACKWARD_OPTIONS = {"bwd_BLOCK_M1": 32, "bwd_BLOCK_N1": 64, "bwd_BLOCK_M2": 64, "bwd_BLOCK_N2": 32, "bwd_num_stages": 1}


def test_both_passes_are_rendered_with_the_tiles_that_are_asked_for() -> None:
    options = frozenset({**FORWARD_OPTIONS, **BACKWARD_OPTIONS}.items())
    forward, backward = rendered(flex_call("ALiBi", 64), "sm80", options)
    assert "BLOCK_M : tl.constexpr = 64" in forward and "BLOCK_N : tl.constexpr = 32" in forward
    assert "num_stages=2" in forward and "num_warps=4" in forward and "num_stages=1" in backward
    for name in ("M1", "N1", "M2", "N2"):
        assert f"BLOCK_{name} : tl.constexpr = {BACKWARD_OPTIONS[f'bwd_BLOCK_{name}']}" in backward


@pytest.mark.parametrize("name", ["packed documents", "ALiBi", pytest.param("T5 table", marks=pytest.mark.long)])
def test_masks_and_scores_may_read_tensors(name: str) -> None:
    """Both kernels read them in the tile; with a causal mask they read none."""
    for text, plain in zip(rendered(flex_call(name, 64), "sm90"), rendered(CAUSAL, "sm90"), strict=True):
        assert "tl.load(in_ptr" in kernel_of(text) and "tl.load(in_ptr" not in kernel_of(plain)


def kernel_of(text: str) -> str:
    found = flex_kernels.KERNEL.search(text)
    assert found is not None
    return found[2]


@pytest.mark.long
def test_causal_on_hopper() -> None:
    """Its two loops, the first over partial tiles, multiply as often; only that one compares positions."""
    compiled = compile_flex(CAUSAL, "sm90").compiled
    assert 0 < compiled.usage.shared <= SHARED["sm90"] and not is_serialized(compiled)
    code = machine_code(compiled)
    partial, full = tile_loops(code)
    assert partial.kinds == full.kinds == ("HGMMA",) and partial.instructions > full.instructions
    of_partial, of_full = kinds_of_loops(code)
    assert of_partial["products"] == of_full["products"] and of_partial["integers"] > of_full["integers"]
    assert figures(compiled, "sm90", usual_loops(compiled))["full"] == of_full


@pytest.mark.long
@pytest.mark.parametrize("target", ["sm80", "sm90", "sm100", "gfx942"])
@pytest.mark.parametrize("name", ["causal", "soft cap"])
def test_loops_of_gradients_are_told_apart(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By those of kernels all of whose programs are of dQ, or of dK and dV."""
    call = flex_call(name, 64)
    whole = gradient_loops(usual_loops(compile_flex(call, target, True).compiled))
    texts = rendered(call, target)
    for condition, kernel in (("True", QUERY_GRADIENT), ("False", KEY_GRADIENT)):
        text = texts[1].replace("if pid >= NUM_KV_BLOCKS:", f"if {condition}:")
        assert text != texts[1]
        monkeypatch.setattr(flex_kernels, "rendered", lambda *_, text=text: ("", text))
        half = usual_loops(compile_flex.__wrapped__(call, target, True).compiled)
        for kind in ("products", "exponentials"):
            assert sorted(each[kind] for each in half) == sorted(each[kind] for each in whole[kernel])
