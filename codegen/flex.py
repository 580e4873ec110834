# hole: header
"""Modifications for FlexAttention: the skeleton, in which every query attends every key and scores stay as they are."""
# end

import torch


# hole: functions
# end
def modifications(inputs, batch, heads, device, layout=(None, None)):
    """`mask_mod` and `score_mod` for `torch.nn.attention.flex_attention`; None where scores stay as they are.

    `inputs` holds the pattern's inputs by name, those with one value a token as [batch or 1, heads or 1, tokens];
    `layout` the declared positions of queries and of keys in laid-out order, where tensors come in that.
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
