"""Inputs that patterns often take, made from what people have: lengths, `cu_seqlens`, padding, trees, graphs.

Results are int32 tensors, on the device of the tensor they are made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maskdsl.analysis.tiles.head_classes import MOST_TOKENS
from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls.arguments import WrongArgument, WrongCall
from maskdsl.base.libraries import missing

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise missing(error, "`maskdsl.inputs`", "torch") from error

__all__ = ["documents", "neighbours", "padding", "tree"]

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
        if numbers.dim() != 1 or not len(numbers) or numbers[0] != 0 or (numbers[1:] < numbers[:-1]).any():
            raise _wrong(name, value, "integers [documents + 1] that begin with 0 and do not fall")
        return _repeated(name, value, numbers.diff())
    if numbers.dim() not in (1, 2):
        raise _wrong(name, value, "integers [tokens] or [batch, tokens]")
    begins = torch.zeros_like(numbers)
    begins[..., 1:] = numbers[..., 1:] != numbers[..., :-1] + 1
    return begins.cumsum(-1).to(torch.int32)


def padding(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The first token and the number of tokens of each sequence, both [batch], for `start <= k and k < start + length`.

    `mask` is [batch, tokens], True or 1 where there is a token, padded on the left, on the right or on both sides. A
    sequence without tokens begins at 0. Raises `AttnError` (E460) for holes between tokens and for other values.
    """
    if not isinstance(mask, Tensor) or mask.dim() != 2 or ((mask != 0) & (mask != 1)).any():
        raise _wrong("mask", mask, "a tensor [batch, tokens] of booleans, or 0 and 1")
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
    if numbers.dim() == 1:
        rows = [_numbered(parents, numbers.tolist(), "")]
    else:
        rows = [_numbered(parents, row, f" of sequence {entry}") for entry, row in enumerate(numbers.tolist())]
    enter, leave = (
        torch.tensor([row[side] for row in rows], dtype=torch.int32, device=numbers.device).reshape(numbers.shape)
        for side in (0, 1)
    )
    return enter, leave


def neighbours(edges: Any, nodes: int | None = None) -> tuple[Tensor, Tensor]:
    """The lists of a graph, for `input edge: sparse[tokens, tokens]`: row starts [nodes + 1], and columns.

    `edges` are pairs [2, edges], from a query to the key that it attends; a sparse matrix of torch or SciPy; or a graph
    of networkx, whose nodes are numbered in their order and whose undirected edges go both ways. Columns go up in each
    row, and are there once. `nodes` is by default the size of the matrix or graph; of pairs, one more than the largest
    number. Numbers of edges (`float[edge]`) follow the order of a list: give pairs themselves to an attention with
    these. Raises `AttnError` (E460).
    """
    pairs, size = _pairs_of(edges)
    if pairs.dim() != 2 or len(pairs) != 2:
        raise _wrong("edges", edges, "integers [2, edges], a sparse matrix, or a graph of networkx")
    if nodes is None:
        nodes = size if size is not None else int(pairs.max()) + 1 if pairs.numel() else 0
    return _compressed(edges, pairs, nodes)


def _pairs_of(edges: Any) -> tuple[Tensor, int | None]:
    """Rows and columns of all edges, [2, edges], and the number of nodes where it is known."""
    if isinstance(edges, Tensor) and edges.layout is not torch.strided:
        return edges.to_sparse(layout=torch.sparse_coo).coalesce().indices(), len(edges)
    if hasattr(edges, "tocoo"):
        matrix = edges.tocoo()
        return torch.stack([torch.as_tensor(x).long() for x in (matrix.row, matrix.col)]), matrix.shape[0]
    if hasattr(edges, "adjacency"):
        number = {node: index for index, node in enumerate(edges)}
        pairs = [(number[node], number[other]) for node, others in edges.adjacency() for other in others]
        return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).t(), len(number)
    return _integers("edges", edges), None


def _compressed(given: object, pairs: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    if pairs.numel() and (int(pairs.min()) < 0 or int(pairs.max()) >= nodes):
        worst = int(pairs.max()) if int(pairs.max()) >= nodes else int(pairs.min())
        raise _wrong("edges", given, f"nodes from 0 to {nodes - 1}, and {worst} is among them")
    codes = torch.unique(pairs[0] * nodes + pairs[1])
    starts = torch.searchsorted(codes, torch.arange(nodes + 1, device=codes.device) * nodes)
    return starts.to(torch.int32), (codes % max(nodes, 1)).to(torch.int32)


def _numbered(given: object, parents: list[int], where: str) -> tuple[list[int], list[int]]:
    """The number of each node, depth first, and the first number behind its descendants.

    Messages show all that was given, and say where the node is.
    """
    children: list[list[int]] = [[] for _ in range(len(parents) + 1)]
    for node, parent in enumerate(parents):
        if not -1 <= parent < len(parents):
            indices = f"indices from -1, of roots, to {len(parents) - 1}"
            raise _wrong("parents", given, f"{indices}: node {node}{where} has {parent}")
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
        node = enter.index(-1)
        raise _wrong("parents", given, f"trees: above node {node}{where} there is a cycle instead of a root")
    return enter, leave


def _by_lengths(value: Any) -> Tensor:
    """The documents of one sequence, or of one for each list of lengths."""
    if _is_nested(value):
        return _stacked(value, [_integers("lengths", value, each) for each in value])
    lengths = _integers("lengths", value)
    if lengths.dim() != 2:
        return _repeated("lengths", value, lengths)
    return _stacked(value, [*lengths]) if len(lengths) else lengths.new_zeros((0, 0), dtype=torch.int32)


def _stacked(value: object, lengths: Sequence[Tensor]) -> Tensor:
    rows = [_repeated("lengths", value, each) for each in lengths]
    if len({len(row) for row in rows}) > 1:
        raise _wrong("lengths", value, "lists of the same sum: each is one sequence of the batch")
    return torch.stack(rows)


def _repeated(name: str, value: object, lengths: Tensor) -> Tensor:
    if lengths.dim() != 1 or (lengths < 0).any():
        raise _wrong(name, value, "integers of 0 or more, one for each document")
    if lengths.clamp(max=MOST_TOKENS + 1).sum() > MOST_TOKENS:  # clamped, since sums wrap around
        raise _wrong(name, value, f"documents of up to {MOST_TOKENS:,} tokens together")
    return torch.arange(len(lengths), dtype=torch.int32, device=lengths.device).repeat_interleave(lengths)


def _integers(name: str, value: Any, sequence: Any = None) -> Tensor:
    """The value, or one sequence of it, as int64. Messages show the value."""
    try:
        numbers = _tensor(value if sequence is None else sequence)
    except (TypeError, ValueError, RuntimeError):
        raise _wrong(name, value, "integers") from None
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype is torch.bool:
        raise _wrong(name, value, "integers")
    return numbers.long()


def _tensor(value: Any) -> Tensor:
    """Lists row by row, since torch refuses lists of tensors and is slow for lists of arrays."""
    if _is_nested(value):
        return torch.stack([_tensor(each) for each in value])
    numbers = torch.as_tensor(value)
    return numbers if isinstance(value, Tensor) or numbers.numel() else numbers.long()  # [] is float32


def _is_nested(value: object) -> bool:
    """Whether it is a list of lists, tensors or arrays."""
    return isinstance(value, list | tuple) and any(
        isinstance(each, list | tuple) or getattr(each, "ndim", 0) for each in value
    )


def _wrong(name: str, value: object, expected: str) -> AttnError:
    return AttnError(WrongArgument(name=name, found=shown(value), expected=expected))
