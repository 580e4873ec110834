"""The number of the key head of a head, and how many key heads there are."""

from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import Value, constant
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.sides import head_number
from maskdsl.bind.context.terms import operate
from maskdsl.ir.ops import Op


def key_heads(frame: Frame) -> int:
    """The key heads of the whole attention: as many as query heads, unless the caller says otherwise."""
    frame.declared.of_call.add("key_heads")
    heads = frame.declared.heads
    return heads.whole if heads.key_heads is None else heads.key_heads


def key_head(frame: Frame, span: Span) -> Value:
    """`key_head`: the number of the key head that the head reads, counted in the whole attention."""
    heads = frame.declared.heads
    shared = constant(heads.whole // key_heads(frame), span)
    return operate(frame, Op.FLOOR_DIVIDE, span, head_number(heads, span), shared)
