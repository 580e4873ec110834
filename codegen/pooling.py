"""Helpers of generated modules whose keys are pooled: torch alone, differentiated by torch itself."""

import torch


def in_boxes(x, lengths, box, value):
    """Tokens of a grid, [batch, heads, tokens, dim], by boxes: every axis of the grid becomes two, boxes and places.

    Boxes that the border cuts are filled up with `value`.
    """
    x = x.unflatten(2, lengths)
    missing = [-length % side for length, side in zip(lengths, box, strict=True)]
    if any(missing):
        ends = [end for rest in reversed(missing) for end in (0, rest)]
        x = torch.nn.functional.pad(x, (0, 0, *ends), value=value)
    for axis, side in reversed(list(enumerate(box, start=2))):
        x = x.unflatten(axis, (-1, side))
    return x


def pooled(x, present, lengths, box, largest):
    """The means, or with `largest` the maxima, of the present tokens of each box, and which boxes have any.

    x is [batch, heads, tokens, dim], with zeros for tokens that are not `present`, bool [batch or 1, 1, tokens, 1].
    Means are of float32 at least. The gradient of a maximum is shared evenly by the tokens that have it.
    """
    positions = [3 + 2 * axis for axis in range(len(box))]
    count = in_boxes(present.long(), lengths, box, 0).sum(dim=positions)
    if largest:
        tokens = in_boxes(x.masked_fill(~present, -torch.inf), lengths, box, -torch.inf)
        # torch shares a maximum by how many tokens have it, and NaN is had by none. A sum is NaN there too.
        unknown = tokens.isnan()
        known = tokens.masked_fill(unknown, -torch.inf).amax(dim=positions)
        values = torch.where(unknown.any(dim=positions), tokens.sum(dim=positions), known).masked_fill(count == 0, 0)
    else:
        dtype = torch.promote_types(x.dtype, torch.float32)
        values = (in_boxes(x, lengths, box, 0).sum(dim=positions, dtype=dtype) / count.clamp(min=1)).to(x.dtype)
    return values.flatten(2, -2), (count > 0).flatten(2, -2)
