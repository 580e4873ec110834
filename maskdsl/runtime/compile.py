"""A mask, or a pattern, to an attention module: checks everything that is known before there are tensors."""

from collections.abc import Iterator, Mapping

from maskdsl.analysis.orders.pattern_text import PatternText
from maskdsl.base.arguments import TensorLayout
from maskdsl.base.diagnostics import AttnError, Diagnostic, nearest_name
from maskdsl.base.errors.calls.arguments import FollowedGiven, WrongFollow
from maskdsl.base.errors.calls.backends import UnknownBackend
from maskdsl.base.errors.language.parameters import MissingParameter
from maskdsl.bind.statement.parameters import unknown_parameter
from maskdsl.emit.plan import make_plan
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.runtime.attention import Attention, FollowingAttention
from maskdsl.runtime.backends.available import backend_names
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.compiled.following import Following
from maskdsl.syntax.program import Program
from maskdsl.syntax.tree import PatternDeclaration


def compile_mask(
    mask: MaskIR,
    backend: str = "auto",
    refine: bool = False,
    tune: bool = False,
    layout: TensorLayout = "bhnd",
    text: PatternText | None = None,
) -> Attention:
    """The attention of a mask: see `Mask.compile`. `text` is what it was bound from. Raises `UnknownBackend`."""
    _check_backend(backend)
    plan = make_plan(mask, refine=refine, tune=tune)
    return Attention(Bound(plan, backend, checks_reads=True, text=text), layout)


def compile_following(
    program: Program,
    declaration: PatternDeclaration,
    values: Mapping[str, object],
    follow: tuple[str, ...],
    heads: Heads,
    order: str | None,
    backend: str,
    refine: bool,
    tune: bool,
    layout: TensorLayout,
) -> FollowingAttention:
    """The attention of a pattern whose `follow` parameters are the lengths of each call's tensors.

    See `Pattern.compile`. Raises `AttnError` for an unknown backend, and for parameters that are unknown, missing, or
    both given and followed.
    """
    _check_backend(backend)
    errors = list(_misfollowed(declaration, values, follow))
    if errors:
        raise AttnError(*errors)
    given = tuple(sorted(values.items()))
    return FollowingAttention(
        Following(program, declaration.name.id, given, follow, heads, order, backend, refine, tune), layout
    )


def _misfollowed(
    declaration: PatternDeclaration, values: Mapping[str, object], follow: tuple[str, ...]
) -> Iterator[Diagnostic]:
    known = {each.name.id: each for each in declaration.parameters}
    if len(follow) not in (1, 2) or len({*follow}) < len(follow):
        yield WrongFollow(found=", ".join(f"`{name}`" for name in follow) or "nothing")
        return
    for name in {**values, **dict.fromkeys(follow)}:
        if name not in known:
            yield unknown_parameter(declaration, name, nearest_name(name, known))
        elif name in values and name in follow:
            yield FollowedGiven(name=name, span=known[name].name.span)
    for name, parameter in known.items():
        if parameter.default is None and name not in values and name not in follow and known.keys() >= {*follow}:
            yield MissingParameter(span=parameter.name.span, name=name, pattern=declaration.name.id)


def _check_backend(name: str) -> None:
    known = backend_names()
    if name not in known:
        names = ", ".join(f'"{each}"' for each in known)
        raise AttnError(UnknownBackend(name=name, backends=names, nearest=nearest_name(name, known)))
