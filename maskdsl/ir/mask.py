"""The root of the IR: a bound pattern with its spaces, sequences, inputs and relation. All lengths are numbers.

Frozen data, made by `maskdsl.bind`, checked by `ir/invariants.py`, evaluated by `ir/meaning/evaluate.py`.
"""

from collections.abc import Callable, Container
from dataclasses import field, replace
from enum import StrEnum
from functools import cached_property
from itertools import chain

from maskdsl.base.diagnostics import Caution
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.declared.sequences import Given, PoolGroups, Sequence, Space
from maskdsl.ir.expressions import Expression, Side
from maskdsl.ir.heads import Heads
from maskdsl.ir.routes import Routed, Scored
from maskdsl.ir.values.token_vectors import (
    OfGroup,
    PairProduct,
    Rewrite,
    TableRow,
    ValueTerm,
    Vector,
    VectorProduct,
    mapped_by,
    vector_leaves,
)


class Normalize(StrEnum):
    """What makes probabilities of final scores; the texts of the statement `normalize`."""

    BY_QUERY = "softmax by q"
    """One softmax for each query, over its keys and sinks."""
    BY_KEY = "softmax by k"
    """One softmax for each key, over its queries."""
    NONE = "none"
    """Scores are probabilities."""


@dataclass(frozen=True)
class Clause:
    """One `attend` or `require` line."""

    relation: Expression
    span: Span | None = field(default=None, compare=False, repr=False)
    label: str = field(default="", compare=False, repr=False)
    """What stands for its text: `branch window[3]` for a branch, which is a line of its pattern."""


@dataclass(frozen=True)
class CausalClaim:
    """`assert causal(...)`: that no later token changes what an earlier query selects, or gets."""

    route: str | None
    """The route, as it is written; None for the whole pattern."""
    message: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class MaskIR:
    """A bound pattern. In self-attention `queries == keys`."""

    name: str
    parameters: tuple[tuple[str, object], ...]
    heads: int
    queries: Sequence
    keys: Sequence
    self_attention: bool
    inputs: tuple[Input, ...]
    """Given by the caller, or computed by a route or a product of the same name in `routed` or `products`."""
    attend: tuple[Clause, ...]
    require: tuple[Clause, ...]
    relation: Expression
    """The disjunction of `attend` and the conjunction of `require`, simplified: which pairs attend."""
    scores: tuple[Expression, ...] = ()
    """Float expressions, applied to `Score()` one after the other."""
    weight: Expression | None = None
    """Float, the product of the factors of all `weight` lines that read the key: a factor of the probabilities."""
    factor: Expression | None = None
    """Float, the product of the other factors: of the query alone, and so a factor of its output."""
    sinks: tuple[Expression, ...] = ()
    """Floats of the query alone: scores of keys that it also attends, whose values are zero."""
    normalize: Normalize = Normalize.BY_QUERY
    scale: Expression | None = None
    """Float without `Score()`; None means 1 / sqrt(head dim)."""
    auto: tuple[str, ...] = ()
    """Spaces with `order auto` whose order is not chosen yet; `analysis/orders/binding.py` chooses it."""
    routed: tuple[Routed, ...] = ()
    """Inputs that are computed from the queries and keys of a call, each after the ones that it reads."""
    products: tuple[VectorProduct, ...] = ()
    """Inputs that scores read, which a call computes from vectors."""
    pairs: tuple[PairProduct, ...] = ()
    """The products of vectors whose sum is the score before the first line; empty for the query times the key."""
    key_value: Vector | None = None
    """What takes the place of the value of a key; None for the value itself."""
    values: tuple[ValueTerm, ...] = ()
    """What pairs add to the output beside it."""
    claims: tuple[CausalClaim, ...] = ()
    """What the pattern says of itself; `analysis/causal/claims.py` checks it."""
    unread: tuple[str, ...] = ()
    """Declared inputs that nothing reads, which are none of `inputs`: calls may give them or leave them out."""
    branch: str = ""
    """The name of the branch that the mask is, `content` or `window[3]`; empty for a whole pattern."""
    branches: tuple["MaskIR", ...] = ()
    """Masks whose attentions add up. This mask then attends what some branch does, and changes no scores."""
    whole: Heads | None = None
    """Which heads of a larger attention the mask is for; None if it is for all."""
    doc: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)
    cautions: tuple[Caution, ...] = field(default=(), compare=False, repr=False)
    """Warnings, without those that a comment in the source allows."""

    @cached_property
    def sequences(self) -> dict[Side, Sequence]:
        """The sequence of each side of a pair."""
        return {Side.QUERY: self.queries, Side.KEY: self.keys}

    def kind(self, side: Side) -> Side:
        """The kind of token of a side: TOKEN for both sides in self-attention."""
        return Side.TOKEN if self.self_attention else side

    @property
    def kinds(self) -> dict[Side, Sequence]:
        """The sequence of each kind of token: one in self-attention, else two."""
        return {self.kind(side): sequence for side, sequence in self.sequences.items()}

    @cached_property
    def pair_expressions(self) -> tuple[Expression, ...]:
        """All expressions over a pair: the relation, scores, weight and scale."""
        return self.relation, *self.pair_values

    @property
    def pair_values(self) -> tuple[Expression, ...]:
        """The expressions that are evaluated for attending pairs only: scores, weight and scale."""
        return tuple(each for each in (*self.scores, self.weight, self.scale) if each is not None)

    @property
    def query_values(self) -> tuple[Expression, ...]:
        """The expressions over the query alone, which are applied to its output and log-sum-exp: sinks and factor."""
        return (*self.sinks, *(() if self.factor is None else (self.factor,)))

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """All expressions that kernels evaluate: those over a pair, and those over the query alone."""
        return *self.pair_expressions, *self.query_values

    @property
    def has_sums(self) -> bool:
        """Whether a query has a log-sum-exp: the logarithm of what its exponentials are divided by."""
        return self.normalize is Normalize.BY_QUERY

    def throughout(self, change: "Callable[[MaskIR], MaskIR]") -> "MaskIR":
        """The mask with a change made to it and to each of its branches."""
        return replace(change(self), branches=tuple(map(change, self.branches)))

    def mapped(self, rewrite: Rewrite) -> "MaskIR":
        """The mask with `rewrite` applied to all expressions over a pair, and to those of its routes."""

        def clauses(of: tuple[Clause, ...]) -> tuple[Clause, ...]:
            return tuple(replace(each, relation=rewrite(each.relation)) for each in of)

        return replace(
            self,
            attend=clauses(self.attend),
            require=clauses(self.require),
            relation=rewrite(self.relation),
            scores=tuple(map(rewrite, self.scores)),
            weight=None if self.weight is None else rewrite(self.weight),
            factor=None if self.factor is None else rewrite(self.factor),
            sinks=tuple(map(rewrite, self.sinks)),
            scale=None if self.scale is None else rewrite(self.scale),
            routed=tuple(each.mapped(rewrite) if isinstance(each, Scored) else each for each in self.routed),
            products=tuple(each.mapped(rewrite) for each in self.products),
            pairs=tuple(each.mapped(rewrite) for each in self.pairs),
            branches=tuple(each.mapped(rewrite) for each in self.branches),
            key_value=mapped_by(self.key_value, rewrite),
            values=tuple(each.mapped(rewrite) for each in self.values),
        )

    @property
    def declared(self) -> "MaskIR":
        """The mask with all tokens in declared order."""
        queries, keys = (replace(each, order=()) for each in (self.queries, self.keys))
        return self.throughout(lambda each: replace(each, queries=queries, keys=keys))

    @property
    def here(self) -> slice:
        """The heads of the mask, as a slice of the heads of the whole attention."""
        first = self.whole.first if self.whole is not None else 0
        return slice(first, first + self.heads)

    @property
    def is_layer(self) -> bool:
        """Whether keys are the tokens of the queries or pooled from them, so that layers can be stacked."""
        return self.keys.given == self.queries.spaces

    @cached_property
    def pooled_spaces(self) -> tuple[Space, ...]:
        """The pooled spaces of either side, and those that they are pooled from, each behind its source."""
        spaces = (space for sequence in (self.queries, self.keys) for space in sequence.spaces)
        return tuple(dict.fromkeys(each for space in spaces for each in space.chain[1:]))

    @cached_property
    def groupings(self) -> tuple[tuple[Space, PoolGroups], ...]:
        """The pooled spaces that are pooled by a coordinate, with their groups."""
        return tuple(dict.fromkeys(each for space in self.pooled_spaces for each in space.groupings))

    @cached_property
    def given(self) -> tuple[Input, ...]:
        """The inputs that the caller gives."""
        return tuple(each for each in self.passed if each.source is None)

    @cached_property
    def passed(self) -> tuple[Input, ...]:
        """The inputs that a call has before routes are found: those that the caller gives, and those made of them."""
        names = {each.name for each in (*self.routed, *self.products, *self.values)}
        return tuple(each for each in self.inputs if each.name not in names)

    @property
    def multiplies(self) -> bool:
        """Whether scores read products of vectors beside that of the query and the key, or values are others."""
        return bool(self.products or self.pairs or self.values or self.key_value is not None)

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """All vectors that products multiply, and of values."""
        tables = ((each.left, each.right) for each in self.products)
        values = [] if self.key_value is None else [self.key_value]
        values += [each.vector for each in self.values]
        return (*chain.from_iterable((*tables, *((each.query, each.key) for each in self.pairs))), *values)

    @property
    def pooled_vectors(self) -> tuple[OfGroup, ...]:
        """The pools of tokens among these vectors and what they are computed from."""
        leaves = chain.from_iterable(map(vector_leaves, self.vectors))
        return tuple(dict.fromkeys(each for each in leaves if isinstance(each, OfGroup)))

    @property
    def rows(self) -> tuple[TableRow, ...]:
        """The rows of tables among these vectors and what they are computed from."""
        leaves = chain.from_iterable(map(vector_leaves, self.vectors))
        return tuple(dict.fromkeys(each for each in leaves if isinstance(each, TableRow)))

    @cached_property
    def unmultiplied(self) -> tuple[Input, ...]:
        """The inputs that are known before products of vectors are computed: given ones, and results of routes."""
        names = {each.name for each in self.products} | {each.name for each in self.values}
        return tuple(each for each in self.inputs if each.name not in names)

    @cached_property
    def pool_counts(self) -> dict[str, int]:
        """The inputs whose values are numbers of pools, by name, and how many pools there are."""
        pairs = [(groups.tokens.definition(groups.by), space.size) for space, groups in self.groupings]
        return {
            source.input: count
            for definition, count in sorted(pairs, key=lambda pair: -pair[1])
            for _, source in (definition.sources if definition is not None else ())
            if isinstance(source, Given)
        }

    def input(self, name: str) -> Input | None:
        """The input of this name, if there is one."""
        return self._named.get(name)

    def named(self, names: Container[str]) -> tuple[Input, ...]:
        """The inputs of these names, in declared order."""
        return tuple(each for each in self.inputs if each.name in names)

    @cached_property
    def _named(self) -> dict[str, Input]:
        return {each.name: each for each in self.inputs}
