"""Tensors in which tokens stand before heads, `layout="bnhd"` of `compile`: views of those that kernels take."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.calls.vectors import OtherGrid, OutOfLayout
from maskdsl.base.source import Span
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR


@dataclass(frozen=True)
class TokensFirst:
    """The layout [batch, tokens, heads, dim]; tokens of one space may have its axes: [batch, h, w, heads, dim]."""

    pattern: str
    span: Span | None
    queries: tuple[int, ...] = ()
    """The lengths of the axes of the queries; none where they are of several spaces, or known in a call alone."""
    keys: tuple[int, ...] = ()
    """Those of the keys that are given."""

    def heads_first(self, q: Tensor, k: Tensor, v: Tensor, layout: str) -> tuple[Tensor, Tensor, Tensor]:
        """Views [batch, heads, tokens, dim]. Raises `AttnError` for tensors of other shapes."""
        errors: list[Diagnostic] = []
        for name, x, axes in (("q", q, self.queries), ("k", k, self.keys), ("v", v, self.keys)):
            if x.dim() != 4:
                errors += self._unfit(name, tuple(x.shape), axes if layout == "declared" else ())
        if errors:
            raise AttnError(*errors)
        q, k, v = (x.flatten(1, -3).transpose(1, 2) for x in (q, k, v))
        return q, k, v

    def _unfit(self, name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> Iterator[Diagnostic]:
        """Errors of a tensor that is not [batch, tokens, heads, dim]."""
        if len(axes) < 2 or len(shape) != len(axes) + 3:
            grid = f", or [batch, {', '.join(map(str, axes))}, heads, head dim]" if len(axes) > 1 else ""
            yield OutOfLayout(name=name, shape=shape, grid=grid)
        elif shape[1:-2] != axes:
            yield OtherGrid(name=name, found=shape[1:-2], pattern=self.pattern, expected=axes, span=self.span)


def tokens_first(mask: MaskIR) -> TokensFirst:
    """The layout for a mask at fixed lengths."""
    given = (mask.sequences[side].given for side in (Side.QUERY, Side.KEY))
    queries, keys = (spaces[0].lengths if len(spaces) == 1 else () for spaces in given)
    return TokensFirst(mask.name, mask.span, queries, keys)


def with_tokens_first(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A view [batch, tokens, heads, ...] of x [batch, heads, tokens, ...]; tokens have these axes."""
    x = x.transpose(1, 2)
    return x if len(axes) == 1 else x.reshape(x.shape[0], *axes, *x.shape[2:])
