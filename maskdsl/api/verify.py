"""`verify`: checks a pattern at random sizes. Tiles and every backend, forward and backward, against the oracle.

The oracle is the plain NumPy meaning in `ir/meaning/evaluate.py`; gradients are compared with its finite differences
along random directions. A failing case is shrunk as long as it fails. `maskdsl verify` runs this.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.api import Mask, Pattern
from maskdsl.base.arguments import COUNT, TEXTS, BackendName, instance, integer, optional, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.inputs import GroupRange, TableRead
from maskdsl.base.errors.commands.command import TooLongToVerify
from maskdsl.base.libraries import missing
from maskdsl.base.records import dataclass
from maskdsl.bind.context.call_arguments import parameter_kind
from maskdsl.ir.meaning.evaluate import attention, dense
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise missing(error, "`verify`", "torch") from error

from maskdsl.api.comparisons import unequal, wrong_gradient, wrong_tiles
from maskdsl.runtime.backends.available import usable_backends

__all__ = ["CannotDraw", "Case", "Failure", "Verdict", "verify"]

Array = NDArray[Any]

_MOST_TOKENS = 160
_MOST_DRAWS = 400
_MOST_MEASURED = 20
"""Failed draws whose length is measured, for the error, where none fits."""
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Case:
    """One setting to verify: parameters, heads, batch size, head dim, dtype, token order, tile size and random seed."""

    parameters: Mapping[str, Any]
    heads: int = 1
    key_heads: int = 1
    batch: int = 1
    dim: int = 16
    dtype: str = "float64"
    order: str | None = None
    block: tuple[int, int] = (16, 16)
    seed: int = 0

    def __str__(self) -> str:
        values = [f"{name}={value}" for name, value in self.parameters.items()]
        rest = f"heads={self.heads}/{self.key_heads} batch={self.batch} dim={self.dim} {self.dtype}"
        order = [] if self.order is None else [f'order="{self.order}"']
        return " ".join([*values, rest, f"block={self.block[0]}x{self.block[1]}", *order, f"seed={self.seed}"])


@dataclass(frozen=True)
class Failure:
    """The smallest failing case found, and what is wrong at it."""

    case: Case
    what: str


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`."""

    cases: int
    """The number of settings tried, a failing one included."""
    backends: tuple[BackendName, ...]
    failures: tuple[Failure, ...] = ()
    dtypes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether no case failed."""
        return not self.failures


class CannotDraw(Exception):
    """Raised by `verify` if no small values were found at which the pattern binds."""


@takes(
    pattern=instance("a pattern, such as `module[name]`", Pattern),
    cases=COUNT,
    seed=integer(0),
    parameters=optional(instance("a mapping from names of parameters to values", Mapping)),
    backends=optional(TEXTS),
    progress=instance("a function", Callable),
)
def verify(
    pattern: Pattern,
    *,
    cases: int = 20,
    seed: int = 0,
    parameters: Mapping[str, object] | None = None,
    backends: Sequence[BackendName] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Verdict:
    """Checks a pattern at `cases` random settings; stops at the first that fails, and shrinks it.

    `parameters` are fixed; the others are drawn. `backends` are by default all that can run on this CPU. `progress` is
    called with the number of settings passed. The same `seed` draws the same settings. Raises `CannotDraw` if no small
    values of the parameters fit the pattern, and `AttnError` if the fixed ones make it longer than 160 tokens.
    """
    names = tuple(backends or usable_backends())
    random = np.random.default_rng(seed)
    dtypes: dict[str, None] = {}
    for number in range(cases):
        case = draw(pattern, random, parameters or {})
        dtypes[case.dtype] = None
        what = problem(pattern, case, names)
        if what is not None:
            failure = _smallest(pattern, case, what, names, parameters or {})
            return Verdict(number + 1, names, (failure,), tuple(dtypes))
        progress(number + 1)
    return Verdict(cases, names, (), tuple(dtypes))


# Drawing


def draw(pattern: Pattern, random: np.random.Generator, fixed: Mapping[str, object]) -> Case:
    """A random case at which `prepared` gives something. Raises as `verify` does."""
    tried: list[Case] = []
    for _ in range(_MOST_DRAWS):
        key_heads = int(random.choice([1, 1, 2]))
        case = Case(
            parameters={**_draw_parameters(pattern, random), **fixed},
            heads=key_heads * int(random.choice([1, 2, 3])),
            key_heads=key_heads,
            batch=int(random.choice([1, 2])),
            dim=int(random.choice([16, 20, 32])),
            dtype=str(random.choice(list(DTYPES))),
            order=[None, None, "declared", f"by shuffle(i, {random.integers(100)})"][random.integers(4)],
            block=(int(random.integers(1, 40)), int(random.integers(1, 40))),
            seed=int(random.integers(2**31)),
        )
        if prepared(pattern, case) is not None:
            return case
        tried.append(case)
    shortest = min(filter(None, (_length(pattern, each) for each in tried[-_MOST_MEASURED:])), default=0)
    if fixed and shortest > _MOST_TOKENS:
        raise AttnError(TooLongToVerify(name=pattern.name, count=shortest, limit=_MOST_TOKENS))
    raise CannotDraw(f"`{pattern.name}`: no small values of its parameters were found that fit together")


def _length(pattern: Pattern, case: Case) -> int | None:
    """The greatest number of queries or keys; None where the case does not bind."""
    try:
        mask = pattern.bind(heads=case.heads, key_heads=case.key_heads, order=case.order, **case.parameters)
    except AttnError:
        return None
    return max(mask.query_length, mask.given_query_length, mask.key_length, mask.given_key_length)


def _draw_parameters(pattern: Pattern, random: np.random.Generator) -> dict[str, object]:
    drawn: dict[str, object] = {}
    for parameter in pattern.declaration.parameters:
        name, default = parameter.name.id, parameter.default
        match parameter_kind(parameter):
            case "int":
                drawn[name] = int(random.integers(1, int(random.choice([3, 8, 40])) + 1))
            case "tuple":
                width = pattern.tuple_width(name) or int(random.integers(1, 4))
                drawn[name] = tuple(int(each) for each in random.integers(1, 6, width))
            case "float" if default is None:
                drawn[name] = float(random.normal())
            case "bool":
                drawn[name] = bool(random.random() < 0.5)
    return drawn


Prepared = tuple[Mask, dict[str, Array], list[Tensor], Array, tuple[Array, Array]]


def prepared(pattern: Pattern, case: Case) -> Prepared | None:
    """The mask, its inputs with routed ones, q, k and v, and what the oracle says of them.

    That is which pairs attend, bool [batch, heads, queries, keys], and the output with the log-sum-exp. None if the
    pattern does not bind at the case, is too long, reads a table out of bounds, or has results beyond the dtype.
    """
    try:
        mask = pattern.bind(heads=case.heads, key_heads=case.key_heads, order=case.order, **case.parameters)
        if max(mask.query_length, mask.given_query_length, mask.key_length, mask.given_key_length) > _MOST_TOKENS:
            return None
        tensors = _tensors(mask, case)
        q, k, v = (tensor.double().numpy() for tensor in tensors)
        inputs = with_routes(mask.ir, _inputs(mask, case), q, k)
        attends = [[dense(mask.ir, h, b, inputs) for h in range(case.heads)] for b in range(case.batch)]
    except AttnError as error:
        if all(each.code < "E4" or isinstance(each, TableRead | GroupRange) for each in error.diagnostics):
            return None
        raise
    out, lse = attention(mask.ir, q, k, v, inputs)
    if np.abs(out[np.isfinite(out)]).max(initial=0) > torch.finfo(DTYPES[case.dtype]).max:
        return None
    return mask, inputs, tensors, np.array(attends), (out, lse)


def _tensors(mask: Mask, case: Case) -> list[Tensor]:
    random = np.random.default_rng(case.seed + 1)
    keys = case.batch, case.key_heads, mask.given_key_length, case.dim
    shapes = [(case.batch, case.heads, mask.given_query_length, case.dim), keys, keys]
    return [torch.tensor(random.normal(size=shape)).to(DTYPES[case.dtype]) for shape in shapes]


def _inputs(mask: Mask, case: Case) -> dict[str, Array]:
    """Random inputs. In half of the cases their values are shuffled, so that segments are not contiguous."""
    inputs = synthetic_inputs(mask.ir, case.seed, case.batch, case.dim)
    if case.dtype == "float16" and (
        mask.ir.weight is not None or mask.ir.query_values
    ):  # exponentials of these values must fit float16
        inputs = {name: value / 8 if value.dtype.kind == "f" else value for name, value in inputs.items()}
    random = np.random.default_rng(case.seed)
    if random.random() < 0.5:
        return inputs
    fixed = {each.name for each in mask.inputs if each.sparse or not each.dimensions}
    return {name: value if name in fixed else random.permuted(value) for name, value in inputs.items()}


# Comparing


def problem(pattern: Pattern, case: Case, backends: Sequence[BackendName]) -> str | None:
    """The first error at a case, as text; None if there is none."""
    setup = prepared(pattern, case)
    if setup is None:
        return None
    return next(_problems(*setup, case, backends), None)


def _problems(
    mask: Mask,
    inputs: dict[str, Array],
    tensors: list[Tensor],
    attends: Array,
    expected: tuple[Array, Array],
    case: Case,
    backends: Sequence[BackendName],
) -> Iterator[str]:
    yield from wrong_tiles(mask, inputs, attends, case.block)
    random = np.random.default_rng(case.seed + 2)
    given: dict[str, Any] = {each.name: torch.as_tensor(inputs[each.name]) for each in mask.ir.given}
    out, lse = expected
    has_lse = all(each.has_sums for each in mask.ir.branches or (mask.ir,))
    toward, toward_lse = random.normal(size=out.shape), random.normal(size=lse.shape) * has_lse
    not_smooth = relation_inputs(mask.ir)
    smooth = [name for name, value in given.items() if value.is_floating_point() and name not in not_smooth]
    leaves = dict(zip("qkv", tensors, strict=True)) | {name: given[name] for name in smooth}
    for name in backends:
        compiled = mask.compile(name)
        for leaf in leaves.values():
            leaf.requires_grad_().grad = None
        if compiled.has_lse:
            result, result_lse = compiled(*tensors, return_lse=True, **given)
            yield from unequal(f"{name}: the log-sum-exp", result_lse, lse, case.dtype)
        else:
            result, result_lse = compiled(*tensors, **given), torch.full(lse.shape, torch.nan)
        yield from unequal(f"{name}: the output", result, out, case.dtype)
        if case.dtype == "float64":
            yield from wrong_gradient(name, mask, inputs, leaves, (result, result_lse), (toward, toward_lse), random)


# Shrinking


def _smallest(
    pattern: Pattern, case: Case, what: str, backends: Sequence[BackendName], fixed: Mapping[str, object]
) -> Failure:
    """The smallest case that still fails, by greedy shrinking."""
    changed = True
    while changed:
        changed = False
        for smaller in _smaller(case, fixed):
            error = problem(pattern, smaller, backends)
            if error is not None:
                case, what, changed = smaller, error, True
                break
    return Failure(case, what)


def _smaller(case: Case, fixed: Mapping[str, object]) -> Iterator[Case]:
    for change in ({"heads": case.key_heads}, {"heads": 1, "key_heads": 1}, {"batch": 1}, {"dim": 16}, {"order": None}):
        candidate = replace(case, **change)
        if candidate != case:
            yield candidate
    for name, value in case.parameters.items():
        if name in fixed:
            continue
        for less in _less(value):
            yield replace(case, parameters={**case.parameters, name: less})
    for axis in (0, 1):
        for side in {1, case.block[axis] // 2, case.block[axis] - 1} - {0, case.block[axis]}:
            block = (side, case.block[1]) if axis == 0 else (case.block[0], side)
            yield replace(case, block=block)


def _less(value: object) -> Iterator[object]:
    match value:
        case bool():
            return
        case int():
            yield from sorted({1, value // 2, value - 1} - {0, value})
        case tuple():
            for at, entry in enumerate(value):
                for less in _less(entry):
                    yield (*value[:at], less, *value[at + 1 :])
