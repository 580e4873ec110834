"""FlexAttention's kernel, rendered by the installed torch and compiled without a GPU, is counted as ours are."""

import pytest
from ahead import SHARED, is_serialized, machine_code
from assembly import kinds_of_loops, tile_loops
from flex_kernels import compile_flex


@pytest.mark.long
def test_causal_on_hopper() -> None:
    """Its two loops, the first over partial tiles, multiply as often; only that one compares positions."""
    compiled = compile_flex(lambda b, h, q, k: k <= q, None, "sm90", 1024, 128)
    assert 0 < compiled.usage.shared <= SHARED["sm90"] and not is_serialized(compiled)
    code = machine_code(compiled)
    partial, full = tile_loops(code)
    assert partial.kinds == full.kinds == ("HGMMA",) and partial.instructions > full.instructions
    of_partial, of_full = kinds_of_loops(code)
    assert of_partial["products"] == of_full["products"] and of_partial["integers"] > of_full["integers"]
