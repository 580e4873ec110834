"""Calls of attentions as data: a call has all that decides what comes out of it. Read by `sequences.py`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import maskdsl
import maskdsl.runtime.compile  # what `compile` imports when it is called
from maskdsl.api.verify import draw as draw_case
from maskdsl.ir.meaning.synthetic_inputs import shape_of, synthetic_inputs
from tests.independent.compare import loaded
from tests.independent.drawing import arrays
from tests.independent.drawing import draw as draw_program

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.attn"))
LENGTH = 40
"""Of the patterns that stand here: calls of a part have fewer tokens."""
FEWEST = 6
"""Tokens of any pattern, which so has parts."""
DIM = 8
PAGE = 4
BODIES = {
    "local": "attend causal and backward(9)",
    "by head": "attend causal and backward(7) if head < heads // 2 else causal",
    "document": "input document: int[batch, t] attend causal and same(document)",
    "numbered": "attend causal where random(3, batch, head, q, k) % 2 == 0 attend all -> all where q == k",
    "shuffled": "coord z = shuffle(i, 7) attend window(11, axis = z) order by z",
    "ordered": "input document: int[batch, t] attend causal and same(document) order by document",
    "sloped": "input slope: float[heads] input shift: float[batch, t]"
    " attend causal score s - slope[head] * float(q - k) + q.shift weight 1.0 + k.shift ** 2",
    "table": "input gate: bool[heads, 5, 5]"
    " attend causal where gate[head, q // 8 % 5, k // 8 % 5] attend all -> all where q == k",
    "routed": "coord chunk = i // 8 route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk"
    " attend causal and (past or same(chunk))",
    "mass": "coord chunk = i // 8 route past = topp(0.6, dot(q, mean(k by chunk))) where k.chunk < q.chunk"
    " attend causal and (past or same(chunk))",
}
KINDS = ("whole", "ordered", "follow", "chunk", "pages", "padded", "varlen", "state")
GRAPHS = ("eager", "eager", "aot_eager", "aot_eager", "inductor")
"""Backends of `torch.compile`."""
MODES = ("grad", "grad", "none", "inference", "autocast", "device", "dtype", "vmap", "checkpoint", "func", "graph")
TRAINING = ("grad", "autocast", "dtype", "vmap", "checkpoint", *GRAPHS)
OF_THE_PROCESS = ("dtype", *GRAPHS)
"""Modes that other threads would be in too."""


@dataclass(frozen=True)
class Subject:
    """A pattern at lengths that fit it."""

    source: Path | str | int
    """A file, a text, or the seed of a random program."""
    pattern: str
    parameters: tuple[tuple[str, Any], ...]
    heads: int
    queries: int
    keys: int
    """Those that are given."""
    routed: bool
    is_layer: bool
    key_heads: int | None = None
    """As many as the pattern is for, if it reads their number."""

    @property
    def follows(self) -> bool:
        """The length that calls can choose is `n`."""
        return dict(self.parameters).get("n") == self.queries == self.keys and self.is_layer

    @property
    def declared(self) -> Any:
        match self.source:
            case Path() as path:
                module = maskdsl.load(path)
            case str() as text:
                module = maskdsl.parse(text)
            case seed:
                module = loaded(draw_program(seed))
        return module[self.pattern]

    def bound(self, **lengths: int) -> maskdsl.Mask:
        mask: maskdsl.Mask = self.declared.bind(heads=self.heads, **{**dict(self.parameters), **lengths})
        return mask


def subject(seed: int) -> Subject | None:
    """Of a seed; None if the pattern is refused, or short. It computes, and so is for a process of its own."""
    random = Random(seed)
    heads = random.choice([2, 4, 4])
    parameters: dict[str, Any] = {}
    source: Path | str | int
    match random.choice(["here", "example", "example", "program"]):
        case "here":
            source, name, parameters = f"pattern p(n) {{ space t[n] {BODIES[random.choice([*BODIES])]} }}", "p", {}
            parameters = {"n": LENGTH}
        case "example":
            source = random.choice(EXAMPLES)
            module = maskdsl.load(source)
            name = random.choice([each for each in module if isinstance(module[each], maskdsl.Pattern)])
            case = draw_case(module[name], np.random.default_rng(seed), {})
            parameters, heads = dict(case.parameters), case.heads
        case _:
            drawn = draw_program(seed)
            source, name, parameters, heads = seed, "drawn", drawn.values, drawn.heads
    made = Subject(source, name, tuple(parameters.items()), heads, 0, 0, False, False)
    try:
        mask = made.bound()
    except maskdsl.AttnError:
        return None
    if min(mask.query_length, mask.given_key_length) < FEWEST:
        return None
    lengths = {"queries": mask.given_query_length, "keys": mask.given_key_length}
    key_heads = None if mask.ir.whole is None else mask.ir.whole.key_count
    return replace(made, **lengths, routed=bool(mask.ir.routed), is_layer=mask.ir.is_layer, key_heads=key_heads)


@dataclass(frozen=True)
class Call:
    """All that decides what comes out."""

    subject: Subject
    kind: str
    mode: str
    backend: str
    batch: int
    key_heads: int
    length: int
    """Of queries, or of the longest sequence."""
    dtype: torch.dtype
    seed: int
    input_seed: int
    """Few, so that calls share what is found in inputs."""
    held: bool
    """Inputs are tensors of an earlier call, whose values have changed."""

    @staticmethod
    def drawn(random: Random, subjects: list[Subject], backend: str) -> "Call":
        about = random.choice(subjects)
        kind, mode = random.choice(KINDS), random.choice(MODES)
        if (kind == "follow" and not about.follows) or (kind == "ordered" and about.routed):
            kind = "padded"
        if mode == "graph":
            mode = random.choice(GRAPHS) if random.random() < 0.3 else "grad"
        if kind == "state" and mode in ("vmap", "func", *GRAPHS):  # lengths are numbers of the host
            mode = "none"
        longest = min(about.queries, about.keys)
        return Call(
            *(about, kind, mode, backend, random.choice([1, 2, 3])),
            random.choice([about.key_heads or n for n in range(1, about.heads + 1) if about.heads % n == 0]),
            min(longest, random.choice([1, 5, 17, longest])),
            random.choice([torch.float32, torch.float64, torch.bfloat16]),
            *(random.randrange(10**6), random.randrange(3), random.random() < 0.3),
        )

    @property
    def tokens(self) -> dict[str, int]:
        return {"n": self.length} if self.kind == "follow" else {}


# One call


@cache
def attention_of(about: Subject, backend: str, follows: bool) -> Any:
    """One for all calls of a process."""
    if not follows:
        return about.bound().compile(backend)
    others = {name: value for name, value in about.parameters if name != "n"}
    return about.declared.compile(backend, follow="n", heads=about.heads, **others)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def mode_of(name: str) -> AbstractContextManager[Any]:
    match name:
        case "none":
            return torch.no_grad()
        case "inference":
            return torch.inference_mode()
        case "autocast":
            return torch.autocast("cpu", dtype=torch.bfloat16)
        case "device":
            return torch.device("meta")  # which is where no result may be
        case "dtype":
            return default_dtype(torch.float64)
        case _:
            return nullcontext()


def result_of(call: Call) -> list[Tensor] | str:
    """Output, log-sum-exp and gradients; or the error."""
    attention = attention_of(call.subject, call.backend, call.kind == "follow")
    generator = torch.Generator().manual_seed(call.seed)
    tensors, options = arguments_of(call, generator)
    inputs = inputs_of(call, len(options["cu_seqlens_q"]) - 1 if call.kind == "varlen" else call.batch)
    leaves = [x for x in (*tensors, *inputs.values()) if x.is_floating_point()]
    trains = call.mode in TRAINING
    for x in leaves:
        x.requires_grad_(trains)
    function: Callable[..., Any] = attention.varlen if call.kind == "varlen" else attention.__call__
    if call.kind == "state":
        function = partial(in_steps, attention)
    if call.mode in GRAPHS:
        function = torch.compile(function, backend=call.mode)
    try:
        with mode_of(call.mode):
            options |= {"return_lse": True} if attention.has_lse else {}
            results, back = called(call.mode, partial(listed, partial(function, **options, **inputs)), tensors)
        weights = [torch.randn(x.shape, generator=generator).to(x.dtype) for x in results]
        if back is not None:
            results += back(tuple(weights))
        elif trains:
            results += torch.autograd.grad(results, leaves, weights, materialize_grads=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return [x.detach().clone() for x in results]


def listed(function: Callable[..., Any], *tensors: Tensor) -> tuple[Tensor, ...]:
    """The results of a call, be they one or two."""
    found = function(*tensors)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def called(mode: str, function: Callable[..., Any], tensors: list[Tensor]) -> tuple[list[Tensor], Any]:
    """Output and log-sum-exp, if there is one, and for `torch.func.vjp` what gives gradients."""
    match mode:
        case "vmap":
            found = torch.vmap(function)(*(torch.stack([x, x.flip(0) / 2]) for x in tensors))
        case "checkpoint":
            found = checkpoint(function, *tensors, use_reentrant=False)
        case "func":
            found, back = torch.func.vjp(function, *tensors)
            return [*found], back
        case _:
            found = function(*tensors)
    return [*found], None


def in_steps(attention: Any, q: Tensor, k: Tensor, v: Tensor, *, query_start: Tensor, **others: Any) -> list[Tensor]:
    """Query by query, as in decoding with drafts that are rejected, with one routing state."""
    state, found = attention.routing_state(len(q)), []
    for position in range(q.shape[2]):
        where = {"query_start": query_start + position, "key_lengths": query_start + position + 1}
        found.append(listed(partial(attention, **where, routing_state=state, **others), q[:, :, [position]], k, v))
        if position % 2:
            state.truncate(query_start + position - 1)
            state = state.clone()
    return [torch.cat(parts, dim=2) for parts in zip(*found, strict=True)]


def arguments_of(call: Call, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Any]]:
    """q, k and v, and what says where they are."""
    about, batch, length = call.subject, call.batch, call.length

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(call.dtype)

    def integer(low: int, high: int, count: int = batch) -> Tensor:
        return torch.randint(low, high + 1, (count,), generator=generator)

    def keys(rows: int, tokens: int) -> list[Tensor]:
        return [normal(rows, call.key_heads, tokens, DIM) for _ in "kv"]

    def part() -> dict[str, Any]:
        starts = integer(0, about.queries - length)
        return {"query_start": starts, "key_lengths": starts + length if about.is_layer else integer(1, about.keys)}

    q = normal(batch, about.heads, length, DIM)
    match call.kind:
        case "whole" | "ordered":
            q = normal(batch, about.heads, about.queries, DIM)
            return [q, *keys(batch, about.keys)], {"layout": "ordered"} if call.kind == "ordered" else {}
        case "follow":
            return [q, *keys(batch, length)], {}
        case "chunk":
            return [q, *keys(batch, about.keys)], part()
        case "pages":
            each = -(-about.keys // PAGE)
            table = torch.randperm(batch * each, generator=generator).view(batch, each)
            return [q, *keys(batch * each, PAGE)], {**part(), "page_table": table}
        case "padded":
            counts, slots = integer(1, length), torch.arange(length).expand(batch, -1)
            table = torch.where(slots < counts[:, None], slots + length * torch.arange(batch)[:, None], -1)
            return [q, *keys(batch * length, 1)], {"query_start": torch.zeros_like(counts), "page_table": table}
        case "varlen":
            sides = ["q"] if about.is_layer else ["q", "k"]
            ends = {f"cu_seqlens_{side}": integer(0, length, batch + 2).cumsum(0) for side in sides}
            ends = {name: x - x[0] for name, x in ends.items()}
            totals = [int(x[-1]) for x in ends.values()]
            q = normal(totals[0], about.heads, DIM)
            return [q, *(normal(totals[-1], call.key_heads, DIM) for _ in "kv")], ends
        case "state":
            count = min(length, 4)
            return [q[:, :, :count], *keys(batch, about.keys)], {"query_start": integer(0, length - count)}
    raise AssertionError(call.kind)


HELD: dict[object, Tensor] = {}
"""Tensors of inputs that calls change and give again."""


def inputs_of(call: Call, batch: int) -> dict[str, Tensor]:
    about = call.subject
    given = about.bound(**call.tokens).ir
    values = synthetic_inputs(given, call.input_seed, batch, DIM)
    if isinstance(about.source, int):
        drawn = draw_program(about.source)
        plain = [each for each in given.given if not each.sparse and each.lists is None]  # lists stay as they are drawn
        shapes = {each.name: shape_of(each, batch, DIM) for each in plain}
        inputs = {each.name: drawn.inputs[each.name] for each in given.given}
        inputs |= {name: inputs[name]._replace(shape=shape) for name, shape in shapes.items()}
        values = arrays(replace(drawn, inputs=inputs), call.input_seed)
    found = {name: torch.tensor(x) for name, x in values.items()}
    found = {name: x.to(call.dtype) if x.is_floating_point() else x for name, x in found.items()}
    return {name: again((name, x.shape, x.dtype), x) for name, x in found.items()} if call.held else found


def again(key: object, values: Tensor) -> Tensor:
    """The tensor of this key with these values."""
    with torch.no_grad():
        return HELD.setdefault(key, values.clone()).requires_grad_(False).copy_(values)
