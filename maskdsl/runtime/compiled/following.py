"""`Following`: the compiled mask of a pattern whose lengths follow each call's tensors. Binds once for each length."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from threading import Lock

import torch
from torch import Tensor

from maskdsl.analysis.orders.binding import bind_mask
from maskdsl.analysis.orders.pattern_text import PatternText, texts_of
from maskdsl.base.diagnostics import AttnError, warn
from maskdsl.base.errors.language.patterns import FollowedBranches
from maskdsl.bind.bind_pattern import branches_of, order_statements
from maskdsl.bind.expression.sparse_inputs import SPARSE
from maskdsl.bind.opened_pattern import with_tokens
from maskdsl.bind.statement.branch_statements import BranchPattern
from maskdsl.bind.statement.empty_spaces import inputs_left_out
from maskdsl.bind.statement.made_inputs import declared_at_any_length, made_inputs
from maskdsl.bind.statement.unread_inputs import names_called, unread_inputs
from maskdsl.emit.plan import make_plan
from maskdsl.ir.heads import DEFAULT_HEADS, Heads, some_heads
from maskdsl.ir.mask import Normalize
from maskdsl.runtime.base.digest import digest
from maskdsl.runtime.base.validate import Lists, Signature
from maskdsl.runtime.compiled.compiled_mask import NO_SUMMANDS, Bound, Summands
from maskdsl.syntax.program import Program
from maskdsl.syntax.tree import (
    AutoOrderStatement,
    BranchStatement,
    Call,
    CoordinateStatement,
    InputStatement,
    Name,
    NormalizeStatement,
    OrderStatement,
    PatternDeclaration,
    PooledSpaceStatement,
    RouteStatement,
    SequenceStatement,
    Statement,
    ValueStatement,
)

_SOME_LENGTH = 64
"""Stands for the lengths where branches are counted before there are tensors."""
_MOST_LENGTHS = 32
"""Lengths whose compiled masks, with kernels and tiles, are cached."""


@dataclass(frozen=True, eq=False)
class Following:
    """A pattern of a program, with everything that binds and compiles it once lengths are known. A `CompiledMask`."""

    program: Program
    pattern: str
    values: tuple[tuple[str, object], ...]
    follow: tuple[str, ...]
    """The parameter that is the number of tokens, or the two that are the numbers of queries and of keys."""
    heads: Heads
    order: str | None
    backend: str
    refine: bool
    tune: bool
    kept: OrderedDict[tuple[int, ...], Bound] = field(default_factory=OrderedDict, init=False, repr=False)
    lock: Lock = field(default_factory=Lock, init=False, repr=False)

    @property
    def options(self) -> tuple[object, ...]:
        """The values of its fields, except caches."""
        return tuple(getattr(self, each.name) for each in fields(self) if each.init)

    @cached_property
    def handle(self) -> str:
        _, *others = self.options
        return digest((tuple(file.span.source.text for file in self.program.files), *others))

    @cached_property
    def signature(self) -> Signature:
        return self.signature_of(self.program.patterns[self.pattern])

    def signature_of(self, declaration: PatternDeclaration) -> Signature:
        """The names that a call of the pattern takes, or of one of its branches as a pattern of its own."""
        orders = order_statements(self.program.patterns[self.pattern], self.order)
        orders = tuple(each for each in orders if isinstance(each, OrderStatement | AutoOrderStatement))
        known = {**dict.fromkeys(self.follow, _SOME_LENGTH), **dict(self.values)}
        written, declaration = declaration, with_tokens(self.program, declaration, known, self.heads)
        unread = unread_inputs(declaration, orders) + inputs_left_out(written, declaration)
        declared = (each for each in declaration.statements if isinstance(each, InputStatement))
        read = {each.name.id: each for each in declared if each.name.id not in unread}
        inputs = {name: each.span for name, each in read.items()}
        sparse = {
            name: Lists(len(each.dimensions) - 2, _numbers_of(name, read))
            for name, each in read.items()
            if each.type.id == SPARSE
        }
        is_routed = any(map(_is_computed, declaration.statements))
        multiplies, pools_queries = "dot" in names_called(self.program, declaration), _pools_queries(declaration)
        names = self.pattern, declaration.span, inputs, unread, sparse
        normalize = _normalization(declaration)
        multiplies |= any(isinstance(each, ValueStatement) for each in declaration.statements)
        named = Signature(
            *names, is_routed, multiplies, pools_queries, normalize, _crosses(declaration), len(self.follow)
        )
        given = tuple(declared_at_any_length(each, declaration, self.heads) for each in read.values())
        return named.making(given, made_inputs(self.program, declaration, given))

    @cached_property
    def branches(self) -> tuple[BranchPattern, ...]:
        """The branches. Their number does not follow the lengths, which is checked in each call."""
        lengths = dict.fromkeys(self.follow, _SOME_LENGTH)
        return branches_of(self.program, self.pattern, {**lengths, **dict(self.values)}, self.heads)

    @cached_property
    def summands(self) -> Summands:
        """Branches that differ in weights alone, by their text, are one attention."""
        alike: dict[object, list[int]] = {}
        for number, each in enumerate(self.branches):
            alike.setdefault(each.without_weights, []).append(number)
        of_branch = {number: summand for summand, numbers in enumerate(alike.values()) for number in numbers}
        masks = tuple(FollowingBranches(self, tuple(numbers)) for numbers in alike.values())
        names = tuple(each.name for each in self.branches)
        return Summands(masks, tuple(of_branch[number] for number in range(len(of_branch))), names)

    def bound(self, queries: int, keys: int) -> Bound:
        """The mask at these lengths, cached. Raises and warns as `Pattern.bind` does."""
        lengths = (keys,) if len(self.follow) == 1 else (queries, keys)
        with self.lock:
            if lengths not in self.kept:
                values = {**dict(self.values), **dict(zip(self.follow, lengths, strict=True))}
                mask = bind_mask(self.program, self.pattern, values, self.heads, self.order)
                warn(mask.cautions)
                if len(mask.branches) != len(self.branches):
                    number = len(mask.branches)
                    known = len(self.branches)
                    raise AttnError(FollowedBranches(name=self.pattern, found=number, known=known, span=mask.span))
                plan = make_plan(mask, refine=self.refine, tune=self.tune)
                text = PatternText(texts_of(self.program), self.pattern, mask.parameters, self.order)
                self.kept[lengths] = Bound(plan, self.backend, checks_reads=True, text=text)
            self.kept.move_to_end(lengths)
            while len(self.kept) > _MOST_LENGTHS:
                self.kept.popitem(last=False)
            return self.kept[lengths]

    def bound_to_longest(self, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> Bound:
        """The mask at the lengths of the longest packed sequences. Waits for the device."""
        sizes = [torch.diff(ends.flatten()).tolist() for ends in (cu_seqlens_q, cu_seqlens_k)]
        queries, keys = (max([1, *map(int, each)]) for each in sizes)
        return self.bound(queries, keys)

    def of_heads(self, first: int, count: int) -> "Following":
        """The pattern for some of its heads. One for a single head is that of any number, or no call fits it."""
        whole = self.heads.whole == DEFAULT_HEADS or count == self.heads.count
        return self if whole else replace(self, heads=some_heads(self.heads, first, count))

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        """Nothing: sizes are checked by the mask at the call's lengths."""

    def fresh(self) -> "Following":
        """An equal value with empty caches."""
        return replace(self)

    def __reduce__(self) -> tuple[object, ...]:
        return Following, self.options

    def __deepcopy__(self, memo: object) -> "Following":
        return self


def _numbers_of(name: str, inputs: Mapping[str, InputStatement]) -> tuple[str, ...]:
    """The inputs that have a number of each entry of a sparse input."""
    return tuple(
        other
        for other, each in inputs.items()
        if any(isinstance(node, Name) and node.id == name for node in each.dimensions)
    )


@dataclass(frozen=True, eq=False)
class FollowingBranches:
    """The sum of some branches of a `Following`, which differ in their weights alone. A `CompiledMask`."""

    whole: Following
    numbers: tuple[int, ...]

    @cached_property
    def handle(self) -> str:
        return digest((self.whole.handle, self.numbers))

    @cached_property
    def signature(self) -> Signature:
        """The names that a call takes: those of the branches."""
        each = [self.whole.signature_of(self.whole.branches[number].declaration) for number in self.numbers]
        inputs = {name: span for one in each for name, span in one.inputs.items()}
        declared = {given.name: given for one in each for given in one.declared}
        made = tuple(dict.fromkeys(source for one in each for source in one.made))
        changes = any(one.changes_inputs for one in each)
        whole = replace(each[0], declared=tuple(declared.values()), made=made, changes_inputs=changes)
        return replace(whole, inputs=inputs, unread=())

    @property
    def summands(self) -> Summands:
        """None: it is one attention."""
        return NO_SUMMANDS

    def bound(self, queries: int, keys: int) -> Bound:
        """The mask at these lengths."""
        return self.whole.bound(queries, keys).sum_of(self.numbers)

    def bound_to_longest(self, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> Bound:
        """The mask at the lengths of the longest packed sequences. Waits for the device."""
        return self.whole.bound_to_longest(cu_seqlens_q, cu_seqlens_k).sum_of(self.numbers)

    def of_heads(self, first: int, count: int) -> "FollowingBranches":
        """The sum for some of its heads."""
        return replace(self, whole=self.whole.of_heads(first, count))

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        """Nothing: sizes are checked by the mask at the call's lengths."""

    def fresh(self) -> "FollowingBranches":
        """An equal value with empty caches."""
        return replace(self, whole=self.whole.fresh())

    def __deepcopy__(self, memo: object) -> "FollowingBranches":
        return self


def _is_computed(statement: Statement) -> bool:
    """Whether a call may compute an input for a statement, also in a branch: a route, a rank, pools by a coordinate."""
    match statement:
        case RouteStatement():
            return True
        case PooledSpaceStatement(by=by):
            return by is not None
        case BranchStatement(statements=statements):
            return any(map(_is_computed, statements))
        case CoordinateStatement(value=Call() as call):
            return call.function.id == "rank"
        case _:
            return False


def _pools_queries(declaration: PatternDeclaration) -> bool:
    """Whether a space of the queries is pooled."""
    pooled = {each.name.id for each in declaration.statements if isinstance(each, PooledSpaceStatement)}
    sequences = (each for each in declaration.statements if isinstance(each, SequenceStatement) and each.kind != "keys")
    return any(space.id in pooled for each in sequences for space in each.spaces)


def _crosses(declaration: PatternDeclaration) -> bool:
    """Whether the keys are other tokens than the queries."""
    sequences = [each for each in declaration.statements if isinstance(each, SequenceStatement)]
    return len({tuple(space.id for space in each.spaces) for each in sequences}) > 1


def _normalization(declaration: PatternDeclaration) -> Normalize:
    """What a pattern's text says; other words are errors of `Following.bound`."""
    texts = [each.text for each in declaration.statements if isinstance(each, NormalizeStatement)]
    return Normalize(texts[0]) if texts and texts[0] in {*Normalize} else Normalize.BY_QUERY
