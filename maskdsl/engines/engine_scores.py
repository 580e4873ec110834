"""What a pattern does to scores as the arguments of the calls of other engines: numbers, and arrays of one batch entry.

Engines multiply products by a scale. Some have a soft cap, `cap * tanh(s / cap)` of the scaled score; FlashInfer has
ALiBi at slopes that it computes itself, and SDPA takes biases of all pairs; some have sinks, logits of each head that
join the softmax. Whatever else a pattern does is refused, with what comes nearest.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from maskdsl.analysis.runs.token_runs import TokenRuns, token_runs
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.engines import UnknownHeadDim, UnsaidScores
from maskdsl.base.records import dataclass
from maskdsl.engines.score_forms import ScoreForm, alibi_factor, is_number, score_form
from maskdsl.ir.declared.inputs import HEAD_DIM
from maskdsl.ir.expressions import Expression
from maskdsl.ir.facts.trace import pair_trace
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.meaning.evaluate import Pairs
from maskdsl.ir.meaning.inputs import input_arrays

_BY_SUM = (
    "of an engine that returns log-sum-exps, multiply the output by 1 / (1 + exp(sink - lse)), of natural logarithms;"
    ' "magi" and "flashmask" take sinks beside any mask'
)
_ANY_SCORE = "`attention.to_flex()` has it as a `score_mod` of FlexAttention"
_ANY_BIAS = '`mask.engine_scores("sdpa")` has it for all pairs, and `attention.to_flex()` as a `score_mod`'
_FACTOR_ERROR = 1e-5
"""FlashInfer computes its slopes in float32, by powers of up to the number of heads."""


@dataclass(frozen=True)
class Engine:
    """The names of an engine's arguments; None for what it has not."""

    name: str
    scale: str
    cap: str | None = None
    sink: str | None = None


ENGINES = {
    "flex": Engine("FlexAttention", "scale"),
    "cudnn": Engine("cuDNN's Flex Attention", "softmax_scale"),
    "flashmask": Engine("FlashMask", "softmax_scale", sink="learnable_sink"),
    "magi": Engine("MagiAttention", "softmax_scale", cap="softcap", sink="sink"),
    "flashinfer": Engine("FlashInfer", "sm_scale", cap="logits_soft_cap", sink="sink"),
    "sdpa": Engine("SDPA", "scale"),
}


def engine_scores(
    engine: str, mask: MaskIR, inputs: Mapping[str, Array], batch: int, head_dim: int | None
) -> dict[str, object]:
    """The arguments, by name: floats, texts and float32 arrays. None of them where scores are those of plain attention.

    Raises `UnsaidScores` for what the engine has no argument for, and `UnknownHeadDim` if a scale takes the head
    dimension.
    """
    names = ENGINES[engine]
    form = _form(names, mask)
    read = pair_trace(mask, (*mask.pair_values, *mask.query_values)).inputs
    if HEAD_DIM in read and head_dim is None:
        raise AttnError(UnknownHeadDim(pattern=mask.name, span=mask.span))
    whole = input_arrays(mask, inputs, read - {HEAD_DIM}, batch + 1)
    whole |= {} if head_dim is None else {HEAD_DIM: np.asarray(head_dim)}
    said = _Said(names, form, mask, inputs, whole, batch, head_dim)
    return {**said.scale(), **said.cap(), **said.bias(), **said.sinks()}


@dataclass(frozen=True, eq=False)
class _Said:
    """What is said to one engine. Each method gives the arguments of one kind, or raises."""

    names: Engine
    form: ScoreForm
    mask: MaskIR
    given: Mapping[str, Array]
    inputs: Mapping[str, Array]
    """Those that scores read, at the sizes that they read."""
    batch: int
    head_dim: int | None

    @cached_property
    def runs(self) -> TokenRuns:
        return token_runs(self.mask, self.given, self.batch)

    def scale(self) -> dict[str, object]:
        """1 / sqrt(head dim), the default of all engines, is not said."""
        factor = self.number(self.form.factor)
        if self.mask.scale is None and factor == 1:
            return {}
        if self.mask.scale is None:
            if self.head_dim is None:
                raise AttnError(UnknownHeadDim(pattern=self.mask.name, span=self.mask.span))
            return {self.names.scale: factor / float(np.sqrt(self.head_dim))}
        if not is_number(self.mask.scale):
            raise _refused(self.names, self.mask, "the `scale`, which is not one number", _ANY_SCORE)
        return {self.names.scale: factor * self.number(self.mask.scale)}

    def cap(self) -> dict[str, object]:
        if self.form.cap is None:
            return {}
        if self.names.cap is None:
            raise _refused(self.names, self.mask, "the soft cap", _ANY_SCORE)
        cap = self.number(self.form.cap)
        if not 0 < cap < np.inf:
            raise _refused(self.names, self.mask, f"a soft cap of {cap:g}", _ANY_SCORE)
        return {self.names.cap: cap}

    def bias(self) -> dict[str, object]:
        if not self.form.biases:
            return {}
        match self.names:
            case Engine("SDPA"):
                heads = [self._added(head) for head in range(self.mask.heads)]
                alike = all(np.array_equal(each, heads[0]) for each in heads)
                return {"attn_mask": np.stack(heads[:1] if alike else heads)}
            case Engine("FlashInfer") if self._has_alibi():
                return {"pos_encoding_mode": "ALIBI"}
            case Engine("FlashInfer"):
                raise _refused(
                    self.names, self.mask, "a bias other than ALiBi's, at the slopes of its paper", _ANY_BIAS
                )
            case _:
                raise _refused(self.names, self.mask, "a bias", _ANY_BIAS)

    def sinks(self) -> dict[str, object]:
        if not self.mask.sinks:
            return {}
        if self.names.sink is None:
            raise _refused(self.names, self.mask, "sinks", _BY_SUM)
        query = np.arange(self.mask.queries.length)[:, None]
        heads = range(self.mask.heads)
        every = [[self.values(each, head, query)[:, 0] for head in heads] for each in self.mask.sinks]
        sinks = np.logaddexp.reduce(np.array(every), axis=0).astype(np.float32)
        is_of_head = bool((sinks == sinks[..., :1]).all())
        match self.names:
            case Engine("MagiAttention") if is_of_head:
                return {"sink": sinks[None, :, 0]}
            case Engine("MagiAttention"):
                return {"sink": sinks.T[:, None], "sink_layout": "ssh"}
            case _ if not is_of_head:
                raise _refused(self.names, self.mask, "sinks that differ from query to query", _BY_SUM)
            case Engine("FlashInfer"):
                return {"sink": sinks[:, 0], **self._window()}
            case _:
                return {self.names.sink: sinks[:, 0]}

    def _window(self) -> dict[str, object]:
        """FlashInfer's kernel with sinks has a causal window, and neither another mask nor a cap or a bias."""
        if self.form.cap is not None or self.form.biases:
            raise _refused(self.names, self.mask, "sinks beside a soft cap or ALiBi", _BY_SUM)
        query = np.arange(self.mask.queries.length)
        of_head = self.runs.head_classes[0]
        if len(self.runs.head_classes) == 1 and np.array_equal(of_head.row, query) and self.mask.self_attention:
            left = int((query - of_head.start).max(initial=0))
            if np.array_equal(of_head.end, query + 1) and np.array_equal(of_head.start, np.maximum(query - left, 0)):
                return {"causal": True, "window_left": left if of_head.start.any() else -1}
        raise _refused(self.names, self.mask, "sinks beside a mask other than a causal window", _BY_SUM)

    def _has_alibi(self) -> bool:
        """Whether the biases are ALiBi at the slopes that FlashInfer computes, and not of the heads of a shard."""
        looks_back = all((each.end <= each.row + 1).all() for each in self.runs.head_classes)
        factors = [alibi_factor(each, looks_back) for each in self.form.biases]
        if len(factors) != 1 or factors[0] is None:
            return False
        first = np.zeros((1, 1), dtype=np.int64)
        values = np.array([self.values(factors[0], head, first)[0, 0] for head in range(self.mask.heads)])
        return np.allclose(values, _alibi_factors(self.mask.heads), rtol=_FACTOR_ERROR, atol=0)

    def _added(self, head: int) -> Array:
        """float32 [queries, keys]: the biases, and minus infinity where a pair does not attend."""
        query, key = np.arange(self.mask.queries.length)[:, None], np.arange(self.mask.keys.length)[None]
        pairs = Pairs(self.mask, query, key, head, self.batch, self.inputs)
        attends = self.runs.head_classes[self.runs.class_of_head[head]].dense(self.mask.keys.length)
        total = sum(pairs.evaluate(each, attends) for each in self.form.biases)
        return np.where(attends, total, -np.inf).astype(np.float32)

    def number(self, expression: Expression) -> float:
        return float(self.values(expression, 0, np.zeros((1, 1), dtype=np.int64))[0, 0])

    def values(self, expression: Expression, head: int, query: Array) -> Array:
        """[queries, 1]: the values of an expression that reads no key."""
        key = np.zeros((1, 1), dtype=np.int64)
        pairs = Pairs(self.mask, query, key, head, self.batch, self.inputs)
        return pairs.evaluate(expression, np.ones(query.shape, dtype=bool))


def _form(engine: Engine, mask: MaskIR) -> ScoreForm:
    others = {
        "the `weight`": mask.weight is not None or mask.factor is not None,
        f"`normalize {mask.normalize}`": mask.normalize is not Normalize.BY_QUERY,
        "the products of vectors": mask.multiplies,
    }
    for what, has in others.items():
        if has:
            raise _refused(engine, mask, what, "`mask.compile()` computes it")
    form = score_form(mask.scores)
    if form is None:
        raise _refused(engine, mask, "the `score` lines", _ANY_SCORE)
    return form


def _refused(engine: Engine, mask: MaskIR, what: str, instead: str) -> AttnError:
    return AttnError(UnsaidScores(what=what, engine=engine.name, pattern=mask.name, instead=instead, span=mask.span))


def _alibi_factors(heads: int) -> Array:
    """float64 [heads]: the slopes of ALiBi's paper: powers of 2 ** (-8 / n) for n heads, a power of two.

    For other numbers of heads those of the power of two below, and then every second one of twice as many.
    """
    below = 1 << (heads.bit_length() - 1)
    more = np.arange(1, 2 * (heads - below), 2)
    return np.concatenate([2 ** (-8 * np.arange(1, below + 1) / below), 2 ** (-4 * more / below)])
