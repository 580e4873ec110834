"""Different orders for heads with different relations: sort keys that depend on the head, `y if head < 4 else x`."""

from collections.abc import Sequence

from maskdsl.analysis.orders.layouts import Keys, Layout
from maskdsl.ir.expressions import Constant, Expression, Head, apply, walk
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import head_classes

MOST_GROUPS = 8
"""The most groups of heads with different orders."""
_ZERO = Constant(0)


def head_groups(mask: MaskIR) -> tuple[tuple[int, ...], ...]:
    """The heads, grouped by relation."""
    _, classes = head_classes(mask.relation, mask.heads)
    return tuple(tuple(head for head, each in enumerate(classes) if each == number) for number in sorted(set(classes)))


def by_head(groups: Sequence[tuple[int, ...]], layouts: Sequence[Layout]) -> Layout:
    """The layout in which every group of heads has its layout of `layouts`."""
    heads = sum(map(len, groups))
    names = dict.fromkeys(name for layout in layouts for name in layout)
    return {name: _selected(groups, [layout.get(name, ()) for layout in layouts], heads) for name in names}


def _selected(groups: Sequence[tuple[int, ...]], several: Sequence[Keys], heads: int) -> Keys:
    """Sort keys that select those of the head's group. Shorter keys are padded with zeros, which change no order."""
    longest = max(map(len, several))
    padded = [(*keys, *[_ZERO] * (longest - len(keys))) for keys in several]
    return tuple(select(groups, [keys[number] for keys in padded], heads) for number in range(longest))


def select(groups: Sequence[tuple[int, ...]], values: Sequence[Expression], heads: int) -> Expression:
    """The value of the head's group, as an expression. Groups of equal value are merged; one condition is omitted."""
    members: dict[Expression, list[int]] = {}
    for group, value in zip(groups, values, strict=True):
        members.setdefault(value, []).extend(group)
    conditions = {value: _is_one_of(sorted(group), heads) for value, group in members.items()}
    *asked, result = sorted(conditions, key=lambda value: sum(1 for _ in walk(conditions[value])))
    for value in reversed(asked):
        result = apply(Op.SELECT, conditions[value], value, result)
    return result


def _is_one_of(group: list[int], heads: int) -> Expression:
    """The condition that the head is in a group: `head == 2`, `head < 4`, `head % 3 == 1`, or a disjunction."""
    if len(group) > 1 and group == list(range(len(group))):
        return apply(Op.LESS, Head(), Constant(len(group)))
    for step in range(2, heads) if len(group) > 1 else ():
        if group == list(range(group[0], heads, step)) and group[0] < step:
            return apply(Op.EQUAL, apply(Op.FLOOR_MODULO, Head(), Constant(step)), Constant(group[0]))
    single = [apply(Op.EQUAL, Head(), Constant(head)) for head in group]
    return single[0] if len(single) == 1 else apply(Op.OR, *single)
