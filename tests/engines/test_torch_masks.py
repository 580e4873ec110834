"""What torch's FlexAttention and SDPA take, against all pairs, and in torch itself."""

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask, create_mask, flex_attention

import maskdsl
from tests.support.engine_cases import OF_EVERY_FILE, bound, cases_of


def of_block_mask(made: BlockMask, batch: int, head: int) -> np.ndarray:
    """Full blocks attend whole; of partial ones `mask_mod` says which pairs do. Of both lists, which must agree."""
    (queries, keys), (height, width) = made.seq_lengths, made.BLOCK_SIZE
    position = torch.arange(queries)[:, None], torch.arange(keys)
    inside = np.broadcast_to(made.mask_mod(torch.tensor(batch), torch.tensor(head), *position).numpy(), (queries, keys))
    entry, of_head = batch % made.kv_indices.shape[0], head % made.kv_indices.shape[1]
    both = []
    for side in ("kv", "q"):
        visible = np.zeros((queries, keys), dtype=bool)
        for prefix, allowed in (("", inside), ("full_", np.ones_like(inside))):
            counts = getattr(made, f"{prefix}{side}_num_blocks")[entry, of_head].tolist()
            indices = getattr(made, f"{prefix}{side}_indices")[entry, of_head].tolist()
            for first, (count, others) in enumerate(zip(counts, indices, strict=True)):
                for other in others[:count]:
                    row, column = (first, other) if side == "kv" else (other, first)
                    tile = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
                    visible[tile] = allowed[tile]
        both.append(visible)
    assert np.array_equal(*both)
    return both[0]


@pytest.mark.thinned(4, "file", "block")
@OF_EVERY_FILE
@pytest.mark.parametrize("block", [(32, 16), (256, 128)])
def test_block_mask(file: str, block: tuple[int, int]) -> None:
    for case in cases_of(file):
        if case.mask.given_key_length != case.mask.key_length or case.mask.given_query_length != case.mask.query_length:
            with pytest.raises(maskdsl.AttnError, match="E601"):
                case.mask.block_mask(block, **case.inputs)
            return
        made = case.mask.block_mask(block, **case.inputs)
        for batch, attended in enumerate(case.dense):
            for head, each in enumerate(attended):
                assert np.array_equal(of_block_mask(made, batch, head), each)


@pytest.mark.thinned(3, "file")
@OF_EVERY_FILE
def test_sdpa_mask(file: str) -> None:
    for case in cases_of(file):
        made = case.mask.sdpa_mask(**case.inputs)
        size = case.mask.query_length, case.mask.key_length
        assert made.dtype == torch.bool and made.shape[2:] == size
        whole = made.expand(case.entries, case.mask.heads, *size).numpy()
        assert np.array_equal(whole, np.array(case.dense))


def test_in_torch() -> None:
    mask = bound("pattern p(n) { space t[n] input d: int[batch, t] attend causal and same(d) }", n=200, heads=2)
    documents = np.sort(np.random.default_rng(0).integers(0, 4, (2, 200)), axis=1)
    q, k, v = torch.randn(3, 2, 2, 200, 16)
    made = mask.block_mask((64, 32), d=documents)
    assert made.shape == (2, 1, 200, 200)
    flex = torch.compile(flex_attention)(q, k, v, block_mask=made)
    sdpa = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.sdpa_mask(d=documents))
    torch.testing.assert_close(flex, sdpa)
    dense = create_mask(made.mask_mod, 2, 1, 200, 200)
    assert torch.equal(dense, mask.sdpa_mask(d=documents))


def test_what_only_scores_read_is_not_needed() -> None:
    mask = bound("pattern p(n) { space t[n] input w: float[heads] attend causal score s * w[head] sink w[head] }", n=50)
    assert np.array_equal(of_block_mask(mask.block_mask(16), 0, 0), mask.dense())
    assert np.array_equal(mask.sdpa_mask().numpy()[0, 0], mask.dense())
