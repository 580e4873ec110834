"""Helpers of generated modules whose keys are pooled. Plain torch; autograd differentiates it."""

import torch


def in_boxes(x, lengths, box, value):
    """Tokens of a grid, [batch, heads, tokens, dim], with each axis of the grid split in two: box, offset in the box.

    Boxes that the border cuts are padded with `value`.
    """
    x = x.unflatten(2, lengths)
    missing = [-length % side for length, side in zip(lengths, box, strict=True)]
    if any(missing):
        ends = [end for count in reversed(missing) for end in (0, count)]
        x = torch.nn.functional.pad(x, (0, 0, *ends), value=value)
    for axis, side in reversed(list(enumerate(box, start=2))):
        x = x.unflatten(axis, (-1, side))
    return x


def pooled(x, present, lengths, box, largest):
    """The mean, or with `largest` the maximum, of each box over its present tokens, and which boxes have any.

    x is [batch, heads, tokens, dim], zero where not `present`, bool [batch or 1, 1, tokens, 1]; the results have boxes
    for tokens. Means are computed in float32 at least. Tokens that share a maximum share its gradient evenly.
    """
    in_box = [3 + 2 * axis for axis in range(len(box))]
    count = in_boxes(present.long(), lengths, box, 0).sum(dim=in_box)
    if largest:
        tokens = in_boxes(x.masked_fill(~present, -torch.inf), lengths, box, -torch.inf)
        # amax divides its gradient by the tokens equal to the maximum: by 0 for NaN, which a sum passes on as well.
        unknown = tokens.isnan()
        known = tokens.masked_fill(unknown, -torch.inf).amax(dim=in_box)
        values = torch.where(unknown.any(dim=in_box), tokens.sum(dim=in_box), known).masked_fill(count == 0, 0)
    else:
        dtype = torch.promote_types(x.dtype, torch.float32)
        values = (in_boxes(x, lengths, box, 0).sum(dim=in_box, dtype=dtype) / count.clamp(min=1)).to(x.dtype)
    return values.flatten(2, -2), (count > 0).flatten(2, -2)
