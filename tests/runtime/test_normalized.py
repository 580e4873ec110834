"""Sinks, factors and normalizations on the CPU's backends, held against published code in float64."""

import re

import pytest
import torch

import maskdsl
from tests.support.normalized import CASES, check


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_published(name: str, backend: str) -> None:
    check(CASES[name], backend)


@pytest.mark.parametrize("normalize", ["none", "softmax by k"])
def test_there_is_no_log_sum_exp(normalize: str) -> None:
    attention = of(normalize).compile()
    with pytest.raises(maskdsl.AttnError, match=f"(?s)E497.*normalize {normalize}"):
        attention(x, x, x, return_lse=True)
    packed = x[0].transpose(0, 1)
    with pytest.raises(maskdsl.AttnError, match="E497"):
        attention.varlen(packed, packed, packed, torch.tensor([0, 9]), return_lse=True)
    assert not attention.has_lse
    assert of("softmax by q").compile().has_lse


WHERE = {
    "query_start": lambda attention: attention(x[:, :, 8:], x, x, query_start=8),
    "key_lengths": lambda attention: attention(x, x, x, key_lengths=torch.tensor([4])),
    "more keys": lambda attention: attention.varlen(
        *(x[0].transpose(0, 1)[each] for each in (slice(3), slice(9), slice(9))),
        torch.tensor([0, 3]),
        torch.tensor([0, 9]),
    ),
}


@pytest.mark.parametrize("part", WHERE)
def test_a_softmax_over_queries_needs_all_of_them(part: str) -> None:
    for attention in (of("softmax by k").compile(), of("softmax by k", bind=False).compile(follow="n")):
        with pytest.raises(maskdsl.AttnError, match=re.escape("E498")):
            WHERE[part](attention)


x = torch.randn(1, 1, 9, 4, generator=torch.Generator().manual_seed(0))


def of(normalize: str, bind: bool = True):
    pattern = maskdsl.parse(f"pattern p(n = 9) {{ space t[n] attend causal normalize {normalize} }}")["p"]
    return pattern.bind() if bind else pattern
