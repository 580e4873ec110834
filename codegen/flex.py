# hole: header
"""`mask_mod` and `score_mod` for FlexAttention: the skeleton, in which every query attends every key."""
# end

import torch


# hole: functions
# end
def modifications(inputs, batch, heads, device, layout=(None, None)):
    """`mask_mod` and `score_mod` for `torch.nn.attention.flex_attention`; `score_mod` is None for unchanged scores.

    `inputs` are the pattern's inputs by name; per-token inputs are [batch or 1, heads or 1, tokens]. `layout` is a
    pair, of queries and of keys: their declared positions in laid-out order, None for tensors in declared order.
    """
    # hole: coordinates
    # end

    # hole: mask_mod
    def mask_mod(batch, head, q_i, k_i):
        """Whether the query attends the key."""
        return batch.new_full((), True, dtype=torch.bool)

    # end
    # hole: score_mod
    score_mod = None
    # end
    return mask_mod, score_mod
