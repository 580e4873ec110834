"""`Pattern`: a pattern of a file, before its parameters have values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

from maskdsl.analysis.orders.binding import bind_mask
from maskdsl.api.bound_patterns import Mask
from maskdsl.base.arguments import (
    FLAG,
    HEADS,
    POSITIVE,
    TENSORS,
    TEXT,
    TEXTS,
    BackendName,
    TensorLayout,
    optional,
    takes,
)
from maskdsl.base.diagnostics import AttnError, warn
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls.arguments import NotCompiled
from maskdsl.base.errors.language.composition import WrongOperand
from maskdsl.base.records import dataclass
from maskdsl.ir.heads import Heads
from maskdsl.syntax.compose import (
    ComposedPattern,
    complement,
    composed,
    intersection,
    scaled,
    soft_capped,
    standalone,
    union,
)
from maskdsl.syntax.program import Program
from maskdsl.syntax.tree import PatternDeclaration, StackDeclaration, Tuple

if TYPE_CHECKING:
    from maskdsl.runtime.attention import FollowingAttention


@dataclass(frozen=True)
class Pattern(Displayed):
    """A `pattern` of an `.attn` file, before its parameters have values: see `bind` and `compile`."""

    program: Program
    """The parsed files, as the compiler represents them. It may change in the next version."""
    declaration: PatternDeclaration
    """The parsed pattern, likewise."""

    @property
    def name(self) -> str:
        """The name in the file."""
        return self.declaration.name.id

    @property
    def doc(self) -> str:
        """The text of the `##` lines above the pattern."""
        return self.declaration.doc

    @property
    def parameters(self) -> dict[str, str | None]:
        """The parameters by name, with their defaults as written; None for a parameter that must be given."""
        return parameter_texts(self.declaration)

    @takes(name=TEXT)
    def tuple_width(self, name: str) -> int | None:
        """The number of entries of a parameter's default; None if that is no tuple."""
        default = next((each.default for each in self.declaration.parameters if each.name.id == name), None)
        return len(default.items) if isinstance(default, Tuple) else None

    @takes(order=optional(TEXT), **HEADS)
    def bind(
        self,
        *,
        heads: int = 1,
        key_heads: int | None = None,
        first_head: int = 0,
        local_heads: int | None = None,
        order: str | None = None,
        **parameters: object,
    ) -> Mask:
        """The mask at these values of the parameters, for `heads` query heads and `key_heads` key heads.

        `heads` is needed where the pattern reads `head` or differs by it, as an `input bias: float[heads]` does. Bound
        for one head, any other pattern takes tensors of any number of heads.

        By default `key_heads` may be any number that divides `heads`. Where tensor parallelism shares the heads of one
        attention among processes, both count the heads of all processes: `head` in the pattern runs from `first_head`
        on for `local_heads` heads (by default all), and inputs have an entry for every head of all processes. q then
        has `local_heads` heads, and k and v `local_heads * key_heads / heads`, or 1 where processes share a key head.

        `order` replaces the order that the pattern declares: `"declared"`, or the text after the word `order`, such as
        `"image by hilbert(y, x)"`, several joined by `; `. Raises `AttnError` with every mistake, and warns by
        `AttnWarning`.
        """
        whole = Heads(heads, key_heads, first_head, local_heads)
        mask = Mask(self, bind_mask(self.program, self.name, parameters, whole, order), order)
        warn(mask.ir.cautions)
        return mask

    @takes(backend=TEXT, follow=TEXTS, order=optional(TEXT), refine=FLAG, tune=FLAG, layout=TENSORS, **HEADS)
    def compile(
        self,
        backend: BackendName = "auto",
        *,
        heads: int = 1,
        key_heads: int | None = None,
        first_head: int = 0,
        local_heads: int | None = None,
        follow: str | tuple[str, ...] = "n",
        order: str | None = None,
        refine: bool = False,
        tune: bool = False,
        layout: TensorLayout = "bhnd",
        **parameters: object,
    ) -> FollowingAttention:
        """The attention for tensors of any length.

        `follow` names the parameter that is the number of tokens, or the two that are the numbers of queries and of
        keys; `parameters` are values of the others. Binds once for each length, so a call raises what `bind` would.
        Heads and `order` are those of `bind`; `backend`, `refine`, `tune` and `layout` those of `Mask.compile`. Raises
        `AttnError` for an unknown backend and for parameters that are unknown, missing, or both given and followed.
        """
        from maskdsl.runtime.compile import compile_following  # imports torch: start-up time

        names = cast("tuple[str, ...]", follow)
        whole = Heads(heads, key_heads, first_head, local_heads)
        options = whole, order, backend, refine, tune, layout
        return compile_following(self.program, self.declaration, parameters, names, *options)

    @property
    def text(self) -> str:
        """The pattern as an `.attn` text of its own, with the macros that it calls."""
        return standalone(self._operand)

    @takes(cap=POSITIVE)
    def soft_capped(self, cap: float) -> Pattern:
        """The pattern with one more line, `score cap * tanh(s / cap)`: final scores stay between `-cap` and `cap`.

        Raises `AttnError` unless `cap` is a positive number.
        """
        return _composed(lambda operand: soft_capped(operand, cap), self._operand)

    @takes(scale=POSITIVE)
    def scaled(self, scale: float) -> Pattern:
        """The pattern with one more line, `scale scale`: its value replaces 1 / sqrt(head dim), in every branch.

        Raises `AttnError` unless `scale` is a positive number, and if the pattern has a scale.
        """
        return _composed(lambda operand: scaled(operand, scale), self._operand)

    @property
    def _operand(self) -> ComposedPattern:
        return ComposedPattern(self.program, self.declaration)

    def __and__(self, other: Pattern) -> Pattern:
        """The pattern that attends what both attend, with the parameters, inputs and statements of both.

        Both have the same tokens; what they call by one name must be the same, and one of them at most changes scores.
        Raises `AttnError` otherwise.
        """
        return _composed(intersection, self._operand, _pattern_operand(other))

    def __or__(self, other: Pattern) -> Pattern:
        """The pattern that attends what either attends. As for `&`, but both must change scores alike."""
        return _composed(union, self._operand, _pattern_operand(other))

    def __invert__(self) -> Pattern:
        """The pattern that attends what this one does not. Scores change as they do in this one."""
        return _composed(complement, self._operand)

    def __call__(self, *tensors: object, **inputs: object) -> NoReturn:
        """Raises `AttnError`: a pattern has to be bound and compiled before it can be called."""
        raise AttnError(NotCompiled(kind="pattern", compiled="pattern.bind(...).compile()"))

    def _shown_(self) -> tuple[object, ...]:
        return self.program, self.declaration

    def __repr__(self) -> str:
        return f"Pattern({self.name}({', '.join(self.parameters)}))"


def _pattern_operand(value: object) -> ComposedPattern:
    if not isinstance(value, Pattern):
        raise AttnError(WrongOperand(found=type(value).__name__, expected="pattern"))
    return value._operand


def _composed(how: Callable[..., str], *operands: ComposedPattern) -> Pattern:
    """The pattern of the text that `how` makes of its operands."""
    made = composed(how, *operands)
    return Pattern(made.program, made.declaration)


def parameter_texts(declaration: PatternDeclaration | StackDeclaration) -> dict[str, str | None]:
    """The parameters by name, with their defaults as written; None where there is none."""
    return {
        parameter.name.id: None if parameter.default is None else parameter.default.span.text
        for parameter in declaration.parameters
    }
