"""The operators `maskdsl::scattered`, `gathered` and `attended`: methods of `ShardedTokens` in graphs of torch.compile.

They are composed of other operators, which tracing sees in their place. A graph names the tokens by a key.
"""

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import uuid4
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from maskdsl.runtime.base_attention import BaseAttention
from maskdsl.runtime.compiled.compiled_mask import find
from maskdsl.runtime.torch_ops.attention_op import LIBRARY, is_ordinary


class _TracedTokens(Protocol):
    """What the operators call: the methods of `ShardedTokens` behind `scatter`, `gather` and `attend`."""

    def scattered(self, x: Tensor, keys: bool, dim: int, outputs: bool) -> Tensor:
        """This rank's tokens of x."""

    def gathered(self, x: Tensor, keys: bool, dim: int, outputs: bool) -> Tensor:
        """The tokens of all ranks."""

    def attended(
        self, attention: BaseAttention, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], wants_lse: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The output and each summand's log-sum-exp, with heads before tokens."""

    def check_planned(self, layer: int, name: str, tensor: Tensor) -> None:
        """Raises if an input is not the one that was planned for."""


_TOKENS: WeakValueDictionary[str, _TracedTokens] = WeakValueDictionary()


def key_of(tokens: _TracedTokens) -> str:
    """A key by which graphs name these tokens, for as long as they live. No other process has it."""
    key = uuid4().hex
    _TOKENS[key] = tokens
    return key


def _scattered(x: Tensor, dim: int, keys: bool, outputs: bool, tokens: str) -> Tensor:
    return _TOKENS[tokens].scattered(x, keys, dim, outputs)


def _gathered(x: Tensor, dim: int, keys: bool, outputs: bool, tokens: str) -> Tensor:
    return _TOKENS[tokens].gathered(x, keys, dim, outputs)


def _attended(
    q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], wants_lse: bool, handle: str, tokens: str
) -> tuple[Tensor, list[Tensor]]:
    return _TOKENS[tokens].attended(BaseAttention(find(handle)), q, k, v, inputs, wants_lse)


def as_planned(x: Tensor, layer: int, name: str, tokens: _TracedTokens, key: str) -> Tensor:
    """x, checked to be the input that was planned for: now, or in a graph whenever it runs."""
    if is_ordinary(x):
        tokens.check_planned(layer, name, x)
        return x
    checked: Tensor = _PLANNED(x, layer, name, key)
    return checked


def _planned(x: Tensor, layer: int, name: str, tokens: str) -> Tensor:
    _TOKENS[tokens].check_planned(layer, name, x)
    return x.clone()  # an operator returns none of its arguments


def _composed(schema: str, kernel: Any) -> Any:
    """The operator of a kernel that is composed of other operators."""
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    name = schema.partition("(")[0]
    LIBRARY.impl(name, kernel, "CompositeImplicitAutograd")
    return getattr(torch.ops.maskdsl, name).default


SCATTERED = _composed("scattered(Tensor x, int dim, bool keys, bool outputs, str tokens) -> Tensor", _scattered)
GATHERED = _composed("gathered(Tensor x, int dim, bool keys, bool outputs, str tokens) -> Tensor", _gathered)
ATTENDED = _composed(
    "attended(Tensor q, Tensor k, Tensor v, Tensor[] inputs, bool wants_lse, str handle, str tokens)"
    " -> (Tensor out, Tensor[] lses)",
    _attended,
)
LIBRARY.define("planned(Tensor x, int layer, str name, str tokens) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
LIBRARY.impl("planned", _planned, "CompositeExplicitAutograd")
_PLANNED = torch.ops.maskdsl.planned.default
torch.library.register_fake("maskdsl::planned", lambda x, layer, name, tokens: torch.empty_like(x), lib=LIBRARY)
torch.library.register_autograd("maskdsl::planned", lambda _, grad: (grad, None, None, None), lib=LIBRARY)
