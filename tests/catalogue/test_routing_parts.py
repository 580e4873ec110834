"""Every example of routing as a part that is the whole: all queries from the first on, and packed sequences."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl import AttnError
from maskdsl.api.verify import draw, prepared

FILES = sorted((Path(__file__).parents[2] / "examples" / "routing").glob("*.attn"))
ROUTED = [(file, name) for file in FILES for name in maskdsl.load(file) if "route " in file.read_text()]


@pytest.mark.parametrize(("file", "name"), ROUTED, ids=lambda each: getattr(each, "stem", each))
def test_all_of_a_pattern_as_a_part(file: Path, name: str) -> None:
    pattern = maskdsl.load(file)[name]
    case = draw(pattern, np.random.default_rng(3), {})
    found = prepared(pattern, case)
    assert found is not None
    mask, arrays, *_ = found
    given = {each.name: torch.as_tensor(arrays[each.name]) for each in mask.ir.given}
    batch = case.batch
    q = torch.randn(batch, mask.heads, mask.query_length, case.dim).double()
    k, v = torch.randn(2, batch, case.key_heads, mask.given_key_length, case.dim).double()
    attention = mask.compile("tiled")
    whole = attention(q, k, v, **given)
    if any(each.pooled_vectors for each in mask.ir.branches or (mask.ir,)):
        with pytest.raises(AttnError, match="E380"):
            attention(q, k, v, query_start=0, **given)
        return
    torch.testing.assert_close(attention(q, k, v, query_start=0, **given), whole)
    if mask.key_length != mask.given_key_length:
        return  # packed sequences cannot be pooled
    ends = [torch.arange(batch + 1) * x.shape[2] for x in (q, k)]
    out = attention.varlen(*map(packed, (q, k, v)), *ends, **given)
    torch.testing.assert_close(out, packed(whole))


def packed(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)
