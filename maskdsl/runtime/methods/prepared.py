"""`PreparedAttention`: an attention with its inputs, which are checked, and from which tiles are computed, once.

Made by `BaseAttention.prepare`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, overload

import torch
from torch import Tensor
from torch.compiler import is_compiling

from maskdsl.base.arguments import LayoutName
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.arguments import ChangedInput, PreparedInput
from maskdsl.runtime.base.processes import distributed_tensor
from maskdsl.runtime.base.tokens_first import TokensFirst, with_tokens_first
from maskdsl.runtime.base.validate import (
    Signature,
    arguments,
    check_given,
    check_options,
    check_sums,
    check_tensors,
)
from maskdsl.runtime.calls.summand import CallOptions, Summand
from maskdsl.runtime.compiled.mask_calls import MaskCalls, remember
from maskdsl.runtime.kernels.known_inputs import KnownInputs, stream_of


class Preparing(Protocol):
    """An attention that can be prepared."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Any:
        """A call with inputs among the options."""

    def prepare(self, **inputs: Any) -> "PreparedAttention":
        """This attention with its inputs."""


class PlainCall(NamedTuple):
    """What a call with all queries takes of an attention without branches."""

    signature: Signature
    summand: Summand
    tokens_first: TokensFirst | None


class PreparedAttention:
    """An attention with its inputs: `attend = attention.prepare(**inputs)`, called as `attend(q, k, v)`.

    `attention` and `inputs`, by name, are what it was made of. A copy, or an unpickled one, is prepared anew, with
    copies of the inputs.
    """

    attention: Preparing
    inputs: dict[str, Any]

    def __init__(
        self, attention: Preparing, signature: Signature, inputs: Mapping[str, Any], plain: PlainCall | None
    ) -> None:
        self.attention = attention
        self.inputs = copied(inputs)
        self._signature = signature
        self._plain = plain if plain is not None and not signature.sparse and not signature.pools_queries else None
        self._given: dict[torch.device, list[Tensor]] = {}
        self._known: dict[object, KnownInputs] = {}
        self._states: tuple[tuple[str, Tensor, int, int], ...] = ()
        if not is_compiling():
            self._states = states(self.inputs)
            check_given(signature, self._given_on(torch.device("cpu")))

    @overload
    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        return_lse: Literal[False] = ...,
        layout: LayoutName = ...,
        **options: Any,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        return_lse: Literal[True],
        layout: LayoutName = ...,
        **options: Any,
    ) -> tuple[Tensor, Tensor]: ...

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        return_lse: bool = False,
        layout: LayoutName = "declared",
        **options: Any,
    ) -> Any:
        """What `attention(q, k, v, **inputs)` returns, for tensors of any batch, dtype and device that fit the inputs.

        `options` are the other arguments of the attention's `forward`, such as `dropout_p` and `query_start`. Raises
        `AttnError` as `forward` does, and if an input has changed since it was prepared.
        """
        if is_compiling():
            return self.attention(q, k, v, return_lse=return_lse, layout=layout, **options, **self.inputs)
        for name, x, version, address in self._states:
            if x._version != version or x.data_ptr() != address:
                raise AttnError(ChangedInput(name=name))
        is_shared = type(q) is not Tensor and isinstance(q, distributed_tensor())
        if options or self._plain is None or is_shared:
            for name in options:
                if name in self.inputs:
                    raise AttnError(PreparedInput(name=name))
            return self.attention(q, k, v, return_lse=return_lse, layout=layout, **options, **self.inputs)
        return self._called(self._plain, q, k, v, return_lse, layout)

    def _called(self, call: PlainCall, q: Tensor, k: Tensor, v: Tensor, return_lse: bool, layout: LayoutName) -> Any:
        if not (type(layout) is str and type(return_lse) is bool):
            check_options(layout, return_lse=return_lse)
        q, k, v, _ = arguments(_NO_INPUTS, q, k, v, {})
        axes = q.shape[1:-2]
        if return_lse:
            check_sums((call.signature,))
        if call.tokens_first is not None:
            q, k, v = call.tokens_first.heads_first(q, k, v, layout)
        if not (q.dim() == k.dim() == v.dim() == 4):
            check_tensors(q, k, v, layout)
        given = self._given[q.device] if q.device in self._given else self._given_on(q.device)
        options = CallOptions(layout, return_lse, False, None, None, None, None, self._knows)
        out, lse = call.summand.attended(q, k, v, given, options)
        if call.tokens_first is not None:
            out, lse = with_tokens_first(out, axes), with_tokens_first(lse, axes) if return_lse else lse
        return (out, lse) if return_lse else out

    def _given_on(self, device: torch.device) -> list[Any]:
        """The inputs in the order of declaration, with lists and arrays as tensors on this device."""
        nothing = torch.empty(0, device=device)
        *_, given = arguments(self._signature, nothing, nothing, nothing, self.inputs)
        self._given[device] = given
        return given

    def _knows(self, bound: MaskCalls, q: Tensor, inputs: Sequence[Tensor]) -> KnownInputs | None:
        """A `Knows`: all inputs stay as they are, but the results of routes.

        Nothing is known while a CUDA graph is captured, so that its replay reads the inputs again.
        """
        if bound.plan.mask.routed:
            return bound.by_version(q, inputs)
        stream = stream_of(q.device)
        if stream is None:
            return None
        key = bound, q.shape[0], q.shape[3], stream  # inputs may be expanded to the batch, and be the head dimension
        known = self._known.get(key)
        if known is None:
            known = KnownInputs(inputs, range(len(inputs)))
            remember(self._known, key, known)
        return known

    def __reduce__(self) -> tuple[object, ...]:
        return _prepared_again, (self.attention, self.inputs)


_NO_INPUTS = Signature("", None, {})


def _prepared_again(attention: Preparing, inputs: Mapping[str, Any]) -> PreparedAttention:
    return attention.prepare(**inputs)


def copied(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, with copies of arrays and lists: no version tells that someone has written into them."""
    return {name: _copy(x) for name, x in inputs.items()}


def _copy(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(map(_copy, x))
    return x.copy() if hasattr(x, "__array_interface__") else x


def states(inputs: Mapping[str, Any]) -> tuple[tuple[str, Tensor, int, int], ...]:
    """The tensors, by name, with their versions and addresses; not those of inference mode, which have no version."""
    tensors = {
        name: x for name, x in inputs.items() if type(x) in (Tensor, torch.nn.Parameter) and not x.is_inference()
    }
    return tuple((name, x, x._version, x.data_ptr()) for name, x in tensors.items() if x.layout is torch.strided)
