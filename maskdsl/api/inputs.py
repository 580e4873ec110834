"""Inputs that patterns often take, made from what people have: lengths, `cu_seqlens`, `position_ids`, padding, trees.

Results are int32 tensors, on the device of the tensor they are made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls.arguments import WrongArgument, WrongCall
from maskdsl.base.libraries import missing

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise missing(error, "`maskdsl.inputs`", "torch") from error

__all__ = ["documents", "padding", "tree"]

_Numbers = Tensor | Sequence[Any]


def documents(
    *, lengths: _Numbers | None = None, cu_seqlens: Tensor | None = None, position_ids: Tensor | None = None
) -> Tensor:
    """The number of each token's document, for `input document: int[tokens]` or `int[batch, tokens]`.

    Made from one of: `lengths`, the tokens of each document, [documents], or one such list for each sequence, all of
    one sum; `cu_seqlens`, [documents + 1], where documents end, from 0 on; `position_ids`, [tokens] or
    [batch, tokens], which go up by one inside a document. Raises `AttnError` (E460, E461).
    """
    given = {"lengths": lengths, "cu_seqlens": cu_seqlens, "position_ids": position_ids}
    (name, value), *others = [each for each in given.items() if each[1] is not None] or [("", None)]
    if value is None or others:
        called = "documents(*, lengths=None, cu_seqlens=None, position_ids=None)"
        raise AttnError(WrongCall(name="documents", reason="exactly one of them is given", called=called))
    if name == "lengths":
        return _by_lengths(value)
    numbers = _integers(name, value)
    if name == "cu_seqlens":
        if numbers.dim() != 1 or not len(numbers) or numbers[0] != 0:
            raise _wrong(name, value, "integers [documents + 1] that begin with 0")
        return _by_lengths(torch.diff(numbers), name)
    if numbers.dim() not in (1, 2):
        raise _wrong(name, value, "integers [tokens] or [batch, tokens]")
    begins = torch.zeros_like(numbers)
    begins[..., 1:] = numbers[..., 1:] != numbers[..., :-1] + 1
    return begins.cumsum(-1).to(torch.int32)


def padding(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The first token and the number of tokens of each sequence, both [batch], for `start <= k and k < start + length`.

    `mask` is [batch, tokens], True or 1 where there is a token, padded on the left, on the right or on both sides. A
    sequence without tokens begins at 0. Raises `AttnError` (E460) for holes between tokens.
    """
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        raise _wrong("mask", mask, "booleans [batch, tokens]")
    here = mask != 0
    lengths = here.sum(-1)
    edges = torch.nn.functional.pad(here.to(torch.int8), (1, 1)).diff() != 0
    if (edges.sum(-1) > 2).any():
        raise _wrong("mask", mask, "padding before and behind the tokens of a sequence, not between them")
    starts = here.to(torch.int8).argmax(-1) if mask.shape[1] else torch.zeros_like(lengths)
    return starts.to(torch.int32), lengths.to(torch.int32)


def tree(parents: _Numbers) -> tuple[Tensor, Tensor]:
    """Numbers of the nodes of trees, such that `k.enter <= q.enter and q.enter < k.leave` says: k is q or above it.

    `parents`, [tokens] or [batch, tokens], has the index of each node's parent, and -1 for roots; parents may be behind
    their children. Takes time linear in the number of nodes. Raises `AttnError` (E460) for cycles and other indices.
    """
    numbers = _integers("parents", parents)
    if numbers.dim() not in (1, 2):
        raise _wrong("parents", parents, "integers [tokens] or [batch, tokens]")
    rows = [_numbered(row) for row in numbers.reshape(-1, numbers.shape[-1]).tolist()]
    enter, leave = (
        torch.tensor([row[side] for row in rows], dtype=torch.int32, device=numbers.device).reshape(numbers.shape)
        for side in (0, 1)
    )
    return enter, leave


def _numbered(parents: list[int]) -> tuple[list[int], list[int]]:
    """The number of each node, depth first, and the first number behind its descendants."""
    children: list[list[int]] = [[] for _ in range(len(parents) + 1)]
    for node, parent in enumerate(parents):
        if not -1 <= parent < len(parents):
            raise _wrong("parents", parent, f"indices from -1, of roots, to {len(parents) - 1}")
        children[parent].append(node)  # the children of -1 are the last list
    enter, leave, count = [-1] * len(parents), [-1] * len(parents), 0
    open_nodes = children[-1][::-1]
    while open_nodes:
        node = open_nodes.pop()
        if enter[node] < 0:
            enter[node] = count
            count += 1
            open_nodes += [node, *reversed(children[node])]
        else:
            leave[node] = count
    if count < len(parents):
        raise _wrong("parents", enter.index(-1), "trees: above this node there is a cycle instead of a root")
    return enter, leave


def _by_lengths(value: Any, name: str = "lengths") -> Tensor:
    if isinstance(value, list | tuple) and any(isinstance(each, list | tuple) for each in value):
        return _stacked(name, value, [_integers(name, each) for each in value])
    lengths = _integers(name, value)
    return _stacked(name, value, [*lengths]) if lengths.dim() == 2 else _repeated(name, lengths)


def _stacked(name: str, value: Any, lengths: Sequence[Tensor]) -> Tensor:
    """One sequence of the batch for each list of lengths."""
    rows = [_repeated(name, each) for each in lengths]
    if len({len(row) for row in rows}) > 1:
        raise _wrong(name, value, "lists of the same sum: each is one sequence of the batch")
    return torch.stack(rows)


def _repeated(name: str, lengths: Tensor) -> Tensor:
    if lengths.dim() != 1 or (lengths < 0).any():
        raise _wrong(name, lengths, "integers of 0 or more, one for each document")
    return torch.arange(len(lengths), dtype=torch.int32, device=lengths.device).repeat_interleave(lengths)


def _integers(name: str, value: Any) -> Tensor:
    try:
        numbers = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) or len(value) else torch.int64)
    except (TypeError, ValueError, RuntimeError):
        raise _wrong(name, value, "integers") from None
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype is torch.bool:
        raise _wrong(name, value, "integers")
    return numbers.long()


def _wrong(name: str, value: object, expected: str) -> AttnError:
    return AttnError(WrongArgument(name=name, found=shown(value), expected=expected))
