"""A mask to one of the same pairs, whose scores are those of plain attention."""

from dataclasses import replace

from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.meaning.inputs import relation_inputs


def plain_scores(mask: MaskIR) -> MaskIR:
    """The pairs of a mask alone. Inputs that decide none of them may be given, or left out."""
    read = relation_inputs(mask)
    others = tuple(each.name for each in mask.given if each.name not in read)
    return replace(
        mask,
        inputs=mask.named(read),
        unread=mask.unread + others,
        scores=(),
        scale=None,
        weight=None,
        factor=None,
        sinks=(),
        normalize=Normalize.BY_QUERY,
        products=(),
        pairs=(),
        key_value=None,
        values=(),
    )
