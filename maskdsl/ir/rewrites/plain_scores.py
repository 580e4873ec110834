"""A mask to one of the same pairs, whose scores are those of plain attention."""

from collections.abc import Container
from dataclasses import replace

from maskdsl.ir.mask import MaskIR, Normalize


def plain_scores(mask: MaskIR, read: Container[str]) -> MaskIR:
    """The pairs of a mask alone, which read these inputs. The others may be given, or left out."""
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
