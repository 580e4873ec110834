"""`Stack`, the layers of a model as patterns, and `BoundStack`, their masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskdsl.analysis.cost.devices import find_device
from maskdsl.analysis.orders.binding import bind_layers
from maskdsl.api.bound_patterns import Mask
from maskdsl.api.given_inputs import arrays_of
from maskdsl.api.patterns import Pattern, parameter_texts
from maskdsl.base.arguments import (
    BATCH,
    BLOCK,
    COUNT,
    DTYPE,
    FLAG,
    HEAD_DIM,
    HEADS,
    LINK,
    RANKS,
    TENSORS,
    TEXT,
    BackendName,
    DtypeName,
    TensorLayout,
    integer,
    optional,
    takes,
)
from maskdsl.base.diagnostics import warn
from maskdsl.base.display import Displayed
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.heads import Heads
from maskdsl.ir.stack import StackIR
from maskdsl.syntax.program import Program
from maskdsl.syntax.tree import StackDeclaration

if TYPE_CHECKING:
    from maskdsl.analysis.cost.predict import StackPrediction
    from maskdsl.analysis.counts.stack_stats import StackStats
    from maskdsl.analysis.reach.receptive_field import Field
    from maskdsl.api.sharded_layers import ShardPlan
    from maskdsl.distributed.homes import ShardScheme
    from maskdsl.runtime.attention import Attention


@dataclass(frozen=True)
class Stack:
    """A `stack` of an `.attn` file: layers of patterns, before its parameters have values."""

    program: Program
    """The parsed files, as the compiler represents them. It may change in the next version."""
    declaration: StackDeclaration
    """The parsed stack, likewise."""

    @property
    def name(self) -> str:
        """The name in the file."""
        return self.declaration.name.id

    @property
    def doc(self) -> str:
        """The text of the `##` lines above the stack."""
        return self.declaration.doc

    @property
    def parameters(self) -> dict[str, str | None]:
        """The parameters by name, with their defaults as written; None for a parameter that must be given."""
        return parameter_texts(self.declaration)

    @takes(**HEADS)
    def bind(
        self,
        *,
        heads: int = 1,
        key_heads: int | None = None,
        first_head: int = 0,
        local_heads: int | None = None,
        **parameters: object,
    ) -> BoundStack:
        """The masks of all layers at these values of the parameters. Heads are those of `Pattern.bind`.

        Raises `AttnError` with every mistake, and warns by `AttnWarning`.
        """
        whole = Heads(heads, key_heads, first_head, local_heads)
        bound = bound_stack(self, bind_layers(self.program, self.name, parameters, whole))
        warn(bound.ir.cautions)
        return bound

    def __repr__(self) -> str:
        return f"Stack({self.name}({', '.join(self.parameters)}))"


@dataclass(frozen=True)
class BoundStack(Displayed):
    """The layers of a stack at values of its parameters, first to last. Equal layers are one `Mask`.

    Methods take inputs by name, as those of `Mask` do; an input serves all layers that declare it, and `q` and `k`
    serve all layers with routes.
    """

    stack: Stack
    """The stack that was bound."""
    ir: StackIR
    """The compiler's representation of the layers. It may change in the next version."""
    different: tuple[Mask, ...]
    """The distinct masks, in the order of their first layer."""

    @property
    def name(self) -> str:
        """The stack's name."""
        return self.ir.name

    @property
    def layers(self) -> tuple[Mask, ...]:
        """The masks of the layers, first to last."""
        return tuple(self.different[number] for number in self.ir.index)

    def __len__(self) -> int:
        return len(self.ir.index)

    @property
    def length(self) -> int:
        """The number of tokens."""
        return self.ir.length

    @property
    def heads(self) -> int:
        """The number of query heads."""
        return self.ir.heads

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs of all layers, each name once."""
        return self.ir.inputs

    @takes(block=BLOCK)
    def stats(self, block: int | tuple[int, int] = (128, 128), **inputs: ArrayLike) -> StackStats:
        """Exact statistics of each distinct layer and of all layers together: see `Mask.stats`."""
        from maskdsl.analysis.counts.stack_stats import stack_stats  # start-up time

        return stack_stats(self.ir, block=cast("tuple[int, int]", block), inputs=self._decided(inputs))

    @takes(gpu=TEXT, head_dim=HEAD_DIM, batch=BATCH)
    def predict(self, gpu: str, *, head_dim: int = 64, batch: int = 1, **inputs: ArrayLike) -> StackPrediction:
        """Predicted seconds of the attention of all layers in sequence: see `Mask.predict`."""
        from maskdsl.analysis.cost.predict import predict_stack  # start-up time

        return predict_stack(self.ir, find_device(gpu), self._decided(inputs), head_dim=head_dim, batch=batch)

    @takes(ranks=RANKS, per_node=COUNT, head_dim=HEAD_DIM, dtype=DTYPE, link=LINK, block=COUNT)
    def shard(
        self,
        ranks: int,
        /,
        *,
        per_node: int = 8,
        head_dim: int = 128,
        dtype: DtypeName = "bfloat16",
        link: tuple[float, float] = (50.0, 400.0),
        block: int = 128,
        scheme: ShardScheme | None = None,
        **inputs: ArrayLike,
    ) -> ShardPlan:
        """The cheapest plan in which layers share the homes of tokens, by the sum of their times: see `Mask.shard`."""
        from maskdsl.api.sharded_layers import ShardArguments, shard_stack  # start-up time

        given = ShardArguments(ranks, per_node, head_dim, dtype, link, block, scheme)
        heads = self.different[0].ir.whole
        whole = self.ir
        if heads is not None and not heads.are_all:
            whole = bind_layers(self.stack.program, self.stack.name, dict(self.ir.parameters), heads.all)
        return shard_stack(self.ir, self._decided(inputs), given, whole)

    @takes(token=optional(integer()), layers=optional(integer()))
    def field(self, token: int | None = None, layers: int | None = None, **inputs: ArrayLike) -> Field:
        """How far information travels through `layers` layers of the stack, which repeats after its last layer.

        See `Mask.field`.
        """
        from maskdsl.analysis.reach.receptive_field import field  # start-up time

        return field(self.ir, token=token, layers=layers, inputs=self._decided(inputs))

    @takes(backend=TEXT, refine=FLAG, tune=FLAG, layout=TENSORS)
    def compile(
        self,
        backend: BackendName = "auto",
        *,
        refine: bool = False,
        tune: bool = False,
        layout: TensorLayout = "bhnd",
    ) -> tuple[Attention, ...]:
        """The attentions of the layers, first to last; equal layers share one. See `Mask.compile`."""
        compiled = [mask.compile(backend, refine=refine, tune=tune, layout=layout) for mask in self.different]
        return tuple(compiled[number] for number in self.ir.index)

    def _decided(self, given: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.generic]]:
        """The inputs as arrays. Raises if an attending pair reads outside a table."""
        from maskdsl.analysis.indices.given_reads import check_layers  # start-up time

        arrays = arrays_of(self.ir, given)
        check_layers(self.ir.different, arrays)
        return arrays

    def _shown_(self) -> tuple[object, ...]:
        return (self.ir,)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.ir.parameters)
        return f"BoundStack({self.name}({values}), heads={self.heads}, {self.length} tokens, layers={len(self)})"


def bound_stack(stack: Stack, ir: StackIR) -> BoundStack:
    """The bound stack of these layers, with a `Mask` for each distinct one."""
    patterns = stack.program.patterns
    masks = (Mask(Pattern(stack.program, patterns[mask.name]), mask) for mask in ir.different)
    return BoundStack(stack, ir, tuple(masks))
