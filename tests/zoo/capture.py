"""What a module multiplies around each softmax: its queries, keys, values and output, as tensors of its own graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SOFTMAX = {torch.softmax, torch.Tensor.softmax, torch.nn.functional.softmax}
ADDING = {torch.baddbmm, torch.Tensor.baddbmm}
PRODUCTS = {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm}
FUSED = torch.nn.functional.scaled_dot_product_attention


@dataclass(frozen=True)
class Softmaxed:
    """One attention of a module. Queries may be scaled already, and keys repeated for each query head."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    leaves: tuple[Tensor, ...]
    """The tensors of the module's graph that q, k and v are, or are views of."""
    mask: Tensor | None = None
    """The mask that fused attention is given."""
    products: tuple[tuple[Tensor, Tensor], ...] = ()
    """The operands of all products since the attention before, in order; the last ones are q and k."""


class _Recorded(TorchFunctionMode):
    """Records products, softmaxes and fused attention while a module computes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Softmaxed] = []
        self.products: list[tuple[Tensor, Tensor]] = []
        self.after_softmax = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in SOFTMAX and args[0].dim() > 2 and self.products:
            self.after_softmax = True
        elif func is FUSED:
            given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | (kwargs or {})
            vectors = given["query"], given["key"], given["value"]
            self.found.append(Softmaxed(*vectors, result, vectors, given.get("attn_mask")))
        elif func in ADDING:
            given = dict(zip(("input", "batch1", "batch2"), args, strict=False)) | (kwargs or {})
            self.products.append((given["batch1"], given["batch2"]))
        elif func in PRODUCTS and args[0].dim() > 2 and args[1].dim() > 2:
            if self.after_softmax:
                q, k = self.products[-1]
                leaves = q, k, args[1]
                products = tuple(self.products)
                self.found.append(Softmaxed(q, k.transpose(-1, -2), args[1], result, leaves, products=products))
                self.products, self.after_softmax = [], False
            else:
                self.products.append((args[0], args[1]))
        return result


def attentions(module: Callable[..., Any], *arguments: Any, **named: Any) -> list[Softmaxed]:
    """The attentions of a call, in order. Products without a softmax between them belong to the next attention."""
    with _Recorded() as recorded:
        module(*arguments, **named)
    return recorded.found
