"""Random calls of the kernels in C, their files for `tests/native/driver.c`, and what they give in float64.

Rows, runs, masks and biases are written down here from dense arrays, as the comments of `codegen/native.c` describe
them, by none of the code that makes them for calls of the product.
"""

from collections.abc import Iterator, Mapping
from ctypes import Structure, sizeof
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.c_structures import constant, pointers, structures

Array = NDArray[Any]

TYPES = ("float32", "bfloat16", "float16")
"""In the order of `enum type`."""
LANES, ROW = constant("LANES"), constant("ROW")


def rounded(x: Array, kind: str) -> Array:
    """Numbers of a type, in float64."""
    if kind != "bfloat16":
        return x.astype(kind).astype(np.float64)
    return (_bfloat16(x).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def stored(x: Array, kind: str) -> Array:
    return _bfloat16(x) if kind == "bfloat16" else x.astype(kind)


def read(data: bytes, kind: str) -> Array:
    if kind != "bfloat16":
        return np.frombuffer(data, kind).astype(np.float64)
    return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def _bfloat16(x: Array) -> Array:
    """To the nearest, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@dataclass(frozen=True)
class NativeCase:
    """One call, drawn from a seed."""

    seed: int
    kind: str
    batch: int
    key_heads: int
    group: int
    """Heads that share keys."""
    folds: bool
    """Whether they are rows together."""
    queries: int
    keys: int
    dim: int
    value_dim: int
    key_block: int
    density: float
    """Of the mask, by panels and by pairs within."""
    has_sinks: bool
    has_factor: bool
    has_bias: bool
    cap: float
    is_permuted: bool
    page: int
    packs: bool
    threads: int
    wants_gradients: bool

    @property
    def heads(self) -> int:
        return self.key_heads * self.group

    @property
    def fold(self) -> int:
        return self.group if self.folds else 1

    @property
    def word(self) -> int:
        """Of masks and biases, the row of the first query."""
        return self.seed % 4

    @property
    def scale(self) -> float:
        return float(np.float32(self.dim**-0.5))

    @property
    def panels(self) -> list[tuple[int, int]]:
        """The first key of each panel, and the key behind its last one."""
        blocks = range(0, self.keys, self.key_block)
        ends = [min(first + self.key_block, self.keys) for first in blocks]
        per_block = range(0, -(-self.key_block // LANES) * LANES, LANES)
        starts = [(min(first + n, end), end) for first, end in zip(blocks, ends, strict=True) for n in per_block]
        return [(start, min(start + LANES, end)) for start, end in starts]

    @cached_property
    def tensors(self) -> dict[str, Array]:
        """What is drawn, in declared order and in float64, as the types of the call hold it."""
        random = np.random.default_rng(self.seed)
        per_query = (self.batch, self.heads, self.queries)
        shapes = {
            "q": (*per_query, self.dim),
            "k": (self.batch, self.key_heads, self.keys, self.dim),
            "v": (self.batch, self.key_heads, self.keys, self.value_dim),
            "grad_out": (*per_query, self.value_dim),
        }
        made = {name: rounded(random.standard_normal(shape), self.kind) for name, shape in shapes.items()}
        for name in ("sinks", "factor", "grad_lse"):
            made[name] = rounded(random.standard_normal(per_query), "float32")
        made["sinks"][:, :, ::3] = -np.inf
        return made

    @cached_property
    def order(self) -> tuple[Array, Array]:
        """The declared positions of queries and keys in the order of computation, [batch, heads, tokens]."""
        random = np.random.default_rng(self.seed + 1)
        shapes = ((self.batch, self.heads, self.queries), (self.batch, self.heads, self.keys))
        query, key = (np.tile(np.arange(shape[-1]), (*shape[:2], 1)) for shape in shapes)
        if self.is_permuted:
            query, key = random.permuted(query, axis=-1), random.permuted(key, axis=-1)
            key = key[:, np.arange(self.heads) // self.group * self.group]  # heads that share keys share their order
        return query, key

    @cached_property
    def mask(self) -> Array:
        """bool [batch, heads, queries, keys], in the order of computation. Some queries attend nothing."""
        random = np.random.default_rng(self.seed + 2)
        mask = np.zeros((self.batch, self.heads, self.queries, self.keys), bool)
        height = max(1, self.queries // 3)
        for first in range(0, self.queries, height):
            for start, end in self.panels:
                kind = random.random(mask.shape[:2])[..., None, None]
                pairs = random.random((*mask.shape[:2], len(mask[0, 0, first : first + height]), end - start))
                mask[:, :, first : first + height, start:end] = (pairs < self.density) & (kind < self.density)
                mask[:, :, first : first + height, start:end] |= kind > 1 - self.density / 2
        mask[:, :, random.random(self.queries) < 0.1] = False
        return mask[:, np.arange(self.heads) // self.fold * self.fold]  # heads that are rows together share masks

    @cached_property
    def bias(self) -> Array:
        """float64 [batch, heads, queries, keys], in the order of computation."""
        random = np.random.default_rng(self.seed + 3)
        return rounded(random.standard_normal(self.mask.shape), "float32")

    def results(self) -> dict[str, Array]:
        """In float64, each in the order in which it is written."""
        q, k, v, grad_out = (self.tensors[name] for name in ("q", "k", "v", "grad_out"))
        names = {"q": "grad_q", "k": "grad_k", "v": "grad_v"}
        out, lse = np.zeros(grad_out.shape), np.zeros(grad_out.shape[:3])
        made = {"out": out, "lse": lse} | {names[name]: np.zeros(self.tensors[name].shape) for name in "qkv"}
        made["grad_bias"] = np.zeros(self.mask.shape)
        for b, head in np.ndindex(self.batch, self.heads):
            at, key_head = self.order[0][b, head], head // self.group
            keys = self.order[1][b, head]
            own_q, own_k, own_v = q[b, head, at], k[b, key_head, keys], v[b, key_head, keys]
            s, slope = self._scores(own_q @ own_k.T * self.scale, self.bias[b, head])
            s = np.where(self.mask[b, head], s, -np.inf)
            sink = self.tensors["sinks"][b, head, at] if self.has_sinks else np.full(self.queries, -np.inf)
            factor = self.tensors["factor"][b, head, at] if self.has_factor else np.ones(self.queries)
            with np.errstate(divide="ignore"):
                lse[b, head, at] = norm = np.logaddexp(np.logaddexp.reduce(s, axis=1, initial=-np.inf), sink)
            p = np.exp(s - np.where(norm == -np.inf, 0, norm)[:, None])
            result = p @ own_v * factor[:, None]
            out[b, head, at] = result
            grad = np.where(norm == -np.inf, 0, 1)[:, None] * grad_out[b, head, at]
            delta = (rounded(result, self.kind) * grad).sum(axis=1) - self.tensors["grad_lse"][b, head, at]
            grad = grad * factor[:, None]
            of_score = p * (grad @ own_v.T - delta[:, None])
            made["grad_bias"][b, head] = of_score
            made["grad_q"][b, head, at] = of_score * slope @ own_k * self.scale
            np.add.at(made["grad_k"][b, key_head], keys, (of_score * slope).T @ own_q * self.scale)
            np.add.at(made["grad_v"][b, key_head], keys, p.T @ grad)
        return made

    def _scores(self, s: Array, bias: Array) -> tuple[Array, Array]:
        """The scores of products, and their derivative by them."""
        slope = np.ones(s.shape)
        if self.cap:
            t = np.tanh(s / self.cap)
            s, slope = t * self.cap, 1 - t * t
        return (s + bias if self.has_bias else s), slope

    # The file

    @cached_property
    def lists(self) -> dict[str, Array]:
        """Rows and runs of each head, or of the heads that fold, their masks, and where their biases come from."""
        count = max(1, min(self.queries, 5, ROW // self.fold))
        rows, runs, words, biases = [], [], [], []
        classes, ends = np.zeros((self.batch, self.heads), np.int32), [0]
        for b, head in np.ndindex(self.batch, self.heads):
            if head % self.fold == 0:
                for first in range(0, self.queries, count):
                    end = min(first + count, self.queries)
                    pairs = self.mask[b, head, first:end]
                    begun = len(runs)
                    for panel, (start, stop) in enumerate(self.panels):
                        here = pairs[:, start:stop]
                        if not here.any():
                            continue
                        is_full = bool(here.all())
                        bits = (here << np.arange(stop - start)).sum(axis=1)
                        follows = runs[begun:] and runs[-1][0] + runs[-1][1] == panel and (runs[-1][2] < 0) == is_full
                        if follows:
                            runs[-1][1] += 1
                        else:
                            mask = -1 if is_full else len(words)
                            runs.append([panel, 1, mask, len(biases) if self.has_bias else -1])
                        if not is_full:
                            words.append(np.pad(bits, (self.word, ROW - len(bits) - self.word)))
                        biases.append((b, head, first, end, start, stop))
                    rows.append((first, end - first, begun, len(runs) - begun, self.word))
                ends.append(len(rows))
            classes[b, head] = len(ends) - 2
        structure = structures()
        return {
            "classes": classes,
            "class_rows": np.array(ends, np.int64),
            "rows": _records(rows, structure["row"]),
            "runs": _records(runs, structure["run"]),
            "words": np.array(words, np.uint16).reshape(-1, ROW),
            "biases": np.array(biases, np.int64).reshape(-1, 6),
        }

    def arrays(self) -> dict[str, Array]:
        """All that `call` points to, by name."""
        made = {name: stored(self.tensors[name], self.kind) for name in ("q", "k", "v", "grad_out")}
        for name in ("q", "k", "v"):
            made[f"grad_{name}"] = np.full_like(made[name], 7)  # no result
        made["out"] = np.full_like(made["grad_out"], 7)
        made["lse"] = np.full(self.tensors["grad_lse"].shape, 7, np.float32)
        wanted = {"sinks": self.has_sinks, "factor": self.has_factor, "grad_lse": True}
        made |= {name: self.tensors[name].astype(np.float32) for name, is_wanted in wanted.items() if is_wanted}
        made |= {name: each for name, each in self.lists.items() if name != "biases"}
        if self.has_bias:
            made["bias"] = np.zeros((self.batch, self.heads, len(self.lists["biases"]), ROW, LANES), np.float32)
            for b, head, number, here, pairs in self._bias_panels():
                made["bias"][b, head, number][here] = self.bias[b, head][pairs]
            made["grad_bias"] = np.zeros_like(made["bias"])
        if self.is_permuted:
            made |= dict(zip(("query_at", "key_at"), (each.astype(np.int32) for each in self.order), strict=True))
        if self.page:
            pages = -(-self.keys // self.page)
            table = np.random.default_rng(self.seed + 4).permutation(self.batch * pages).reshape(self.batch, pages)
            made["pages"] = table.astype(np.int32)
            made |= {name: self._paged(made[name], table) for name in ("k", "v")}
        return made

    def _bias_panels(self) -> Iterator[tuple[int, int, int, tuple[slice, slice], tuple[slice, slice]]]:
        """Of each head of each panel: its biases, which rows and lanes of them, and which pairs these are."""
        for number, (b, head, first, end, start, stop) in enumerate(self.lists["biases"].tolist()):
            for n in range(self.fold):
                rows = slice(self.word, self.word + end - first)
                yield b, head + n, number, (rows, slice(0, stop - start)), (slice(first, end), slice(start, stop))

    def _paged(self, x: Array, table: Array) -> Array:
        """[pages, key heads, page, dim] of [batch, key heads, keys, dim]."""
        pad = table.shape[1] * self.page - self.keys
        cut = np.pad(x, ((0, 0), (0, 0), (0, pad), (0, 0)))
        cut = cut.reshape(*x.shape[:2], table.shape[1], self.page, x.shape[3]).swapaxes(1, 2)
        made = np.empty((table.size, *cut.shape[2:]), x.dtype)
        made[table.ravel()] = cut.reshape(-1, *cut.shape[2:])
        return made

    def structure(self, arrays: Mapping[str, Array]) -> Structure:
        """`call`, whose pointers are not set."""
        made = structures()["call"]()
        values: dict[str, Any] = {name: getattr(self, name) for name in ("batch", "heads", "key_heads", "queries")}
        values |= {name: getattr(self, name) for name in ("keys", "dim", "value_dim", "key_block", "page", "threads")}
        values |= {"type": TYPES.index(self.kind), "fold": self.fold, "packs": self.packs, "scale": self.scale}
        values |= {"cap": self.cap, "height": ROW}
        if self.has_bias:
            bias = arrays["bias"]
            values |= {"bias_batch": bias[0].size, "bias_head": bias[0, 0].size, "biases": bias.shape[2]}
        if self.is_permuted:
            values |= {"query_at_batch": self.heads * self.queries, "query_at_head": self.queries}
            values |= {"key_at_batch": self.heads * self.keys, "key_at_head": self.group * self.keys}
        if self.page:
            values["pages_batch"] = arrays["pages"].shape[1]
        for name, value in values.items():
            assert hasattr(made, name), name
            setattr(made, name, value)
        for name in ("q", "k", "v", "out", "grad_out", "grad_q", "grad_k", "grad_v"):
            x, tensor = arrays[name], getattr(made, name)
            tensor.batch, tensor.head, tensor.token = x[0].size, x[0, 0].size, x.shape[3]
        return made

    def write(self, path: Path) -> dict[str, tuple[int, int]]:
        """Writes the file of the case. Returns where in it the arrays are: the first byte, and how many."""
        arrays = self.arrays()
        structure = self.structure(arrays)
        offsets = pointers(type(structure))
        assert arrays.keys() <= offsets.keys()
        begin = 8 * 3 + 24 * len(arrays) + sizeof(structure)
        entries, where = [], {}
        for name, array in arrays.items():
            where[name] = (begin, array.nbytes)
            entries.append((offsets[name], begin, array.nbytes))
            begin += array.nbytes
        head = np.array([sizeof(structure), self.wants_gradients, len(arrays), *np.ravel(entries)], np.int64)
        path.write_bytes(b"".join([head.tobytes(), bytes(structure), *(each.tobytes() for each in arrays.values())]))
        return where

    def read(self, path: Path, where: Mapping[str, tuple[int, int]]) -> tuple[int, dict[str, Array]]:
        """What the kernels returned, and their results as `results` gives them."""
        content = path.read_bytes()
        shapes = {"out": "grad_out"} | ({"grad_q": "q", "grad_k": "k", "grad_v": "v"} if self.wants_gradients else {})
        made = {}
        for name, like in shapes.items():
            first, size = where[name]
            made[name] = read(content[first : first + size], self.kind).reshape(self.tensors[like].shape)
        first, size = where["lse"]
        made["lse"] = read(content[first : first + size], "float32").reshape(self.tensors["grad_lse"].shape)
        if self.has_bias and self.wants_gradients:
            first, size = where["grad_bias"]
            panels = read(content[first : first + size], "float32").reshape(self.batch, self.heads, -1, ROW, LANES)
            made["grad_bias"] = np.zeros(self.mask.shape)
            for b, head, number, here, pairs in self._bias_panels():
                made["grad_bias"][b, head][pairs] = panels[b, head, number][here]
        return int(np.frombuffer(content[:8], np.int64)[0]), made


def _records(rows: list[Any], kind: type[Structure]) -> Array:
    """Numbers as they lie in an array of structures."""
    made = [kind(*each) for each in rows]
    return np.frombuffer(b"".join(map(bytes, made)), np.uint8)


def drawn_cases(seed: int, count: int) -> list[NativeCase]:
    """Random cases. Gradients are of calls without pages, as in the product."""
    random = np.random.default_rng(seed)

    def one_of(*values: Any) -> Any:
        return values[random.integers(len(values))]

    cases = []
    for number in range(count):
        page = one_of(0, 0, 7)
        cases.append(
            NativeCase(
                seed=seed + number,
                kind=TYPES[number % 3],
                batch=one_of(1, 2),
                key_heads=one_of(1, 2),
                group=one_of(1, 1, 3),
                folds=one_of(False, True),
                queries=one_of(1, 7, 33),
                keys=one_of(1, 17, 70, 200),
                dim=one_of(1, 5, 16, 64, 80),
                value_dim=one_of(1, 6, 16, 64, 72),
                key_block=one_of(16, 20, 64),
                density=one_of(0.2, 0.6, 1.0),
                has_sinks=one_of(False, True),
                has_factor=one_of(False, True),
                has_bias=one_of(False, True),
                cap=one_of(0.0, 0.0, 1.5),
                is_permuted=one_of(False, True),
                page=page,
                packs=one_of(False, True),
                threads=one_of(1, 3),
                wants_gradients=not page,
            )
        )
    return cases
