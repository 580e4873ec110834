"""Random calls of the kernels in C, their files for `tests/native/driver.c`, and what they give in float64.

Rows, runs, masks and biases are written down (`native_lists.py`) from dense arrays, as the comments of
`codegen/native.c` describe them, by none of the code that makes them for calls of the product.
"""

from collections.abc import Iterator, Mapping
from ctypes import Structure, sizeof
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.c_structures import pointers, structures
from tests.support.native_lists import LANES, ROW, Lists

Array = NDArray[Any]

TYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
"""In the order of `enum type`."""


def rounded(x: Array, kind: str) -> Array:
    """Numbers of a type, in float64."""
    return read(stored(x, kind).tobytes(), kind).reshape(x.shape)


def stored(x: Array, kind: str) -> Array:
    if kind in _EIGHT_BITS:
        return _eight_bits(x, kind)
    return _bfloat16(x) if kind == "bfloat16" else x.astype(kind)


def read(data: bytes, kind: str) -> Array:
    if kind in _EIGHT_BITS:
        return _numbers(kind)[np.frombuffer(data, np.uint8)]
    if kind != "bfloat16":
        return np.frombuffer(data, kind).astype(np.float64)
    return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


_EIGHT_BITS = {"float8_e4m3fn": (3, 7), "float8_e5m2": (2, 15)}
"""The bits of a mantissa, and what is subtracted from exponents."""


@cache
def _numbers(kind: str) -> Array:
    """The number of each byte, as the OCP's specification of 8-bit floating point says."""
    bits, bias = _EIGHT_BITS[kind]
    codes = np.arange(128)
    exponent, mantissa = codes >> bits, codes % (1 << bits) / (1 << bits)
    sizes = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), (1 + mantissa) * 2.0 ** (exponent - bias))
    if kind == "float8_e5m2":
        sizes[124:] = [np.inf, np.nan, np.nan, np.nan]
    else:
        sizes[127] = np.nan
    return np.concatenate([sizes, -sizes])


def _eight_bits(x: Array, kind: str) -> Array:
    """The nearest of finite numbers."""
    numbers = _numbers(kind)
    distances = np.abs(x[..., None] - np.where(np.isfinite(numbers), numbers, 1e9))
    code = np.where(np.isnan(x), 127, distances.argmin(axis=-1))
    return code.astype(np.uint8)


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
    misses: bool
    """Whether some pages are not there, and entries have fewer keys than there is room for."""
    repeats: bool
    """Whether panels side by side share their masks."""
    has_segments: bool
    packs: bool
    threads: int
    wants_lse: bool
    wants_gradients: bool
    cached: tuple[str, str] | None = None
    """The types of keys and values, where they are other ones."""
    spoils: str = ""
    """A tensor that is NaN, or `scale`, which is so large that log-sum-exps are."""

    @property
    def heads(self) -> int:
        return self.key_heads * self.group

    @property
    def fold(self) -> int:
        return self.group if self.folds else 1

    @property
    def kinds(self) -> dict[str, str]:
        """The type of each tensor."""
        tensors = dict.fromkeys(("q", "k", "v", "out", "grad_out", "grad_q", "grad_k", "grad_v"), self.kind)
        return tensors if self.cached is None else tensors | dict(zip("kv", self.cached, strict=True))

    @property
    def word(self) -> int:
        """Of masks and biases, the row of the first query."""
        return self.seed % 4

    @property
    def scale(self) -> float:
        return 1e4 if self.spoils == "scale" else float(np.float32(self.dim**-0.5))

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
        made = {name: rounded(random.standard_normal(shape), self.kinds[name]) for name, shape in shapes.items()}
        for name in ("sinks", "factor", "grad_lse"):
            made[name] = rounded(random.standard_normal(per_query), "float32")
        made["sinks"][:, :, ::3] = -np.inf
        if self.spoils in made:
            made[self.spoils] = np.full_like(made[self.spoils], np.nan)
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
        if self.has_segments:
            return mask
        return mask[:, np.arange(self.heads) // self.fold * self.fold]  # heads that are rows together share masks

    @cached_property
    def lengths(self) -> Array:
        """int32 [batch]: the keys that exist."""
        return np.random.default_rng(self.seed + 5).integers(0, self.keys + 1, self.batch).astype(np.int32)

    @cached_property
    def pages(self) -> Array:
        """int32 [batch, pages of an entry]"""
        random, pages = np.random.default_rng(self.seed + 4), -(-self.keys // self.page)
        table = random.permutation(self.batch * pages).reshape(self.batch, pages).astype(np.int32)
        if self.misses:
            table[random.random(table.shape) < 0.2] = -1
        return table

    @cached_property
    def attends(self) -> Array:
        """`mask`, of the keys that exist."""
        if not self.misses:
            return self.mask
        exists = np.arange(self.keys) < self.lengths[:, None]
        if self.page:
            exists &= (self.pages >= 0).repeat(self.page, axis=1)[:, : self.keys]
        return self.mask & exists[:, None, None]

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
            s = np.where(self.attends[b, head], s, -np.inf)
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
    def lists(self) -> tuple[Lists, Array, list[int]]:
        """Rows or segments of each head, or of the heads that fold; which a head has, and where those of each begin."""
        count = max(1, min(self.queries, 5, ROW // self.fold))
        made = Lists(self.panels, self.word, self.has_bias, self.repeats)
        random = np.random.default_rng(self.seed + 6)
        classes, ends = np.zeros((self.batch, self.heads), np.int32), [0]
        for b, head in np.ndindex(self.batch, self.heads):
            if head % self.fold == 0:
                for first in range(0, self.queries, 4 * count if self.has_segments else count):
                    if self.has_segments:
                        pairs = self.mask[b, head : head + self.fold, first : first + 4 * count]
                        made.add_segment(first, pairs, random)
                    else:
                        pairs = self.mask[b, head, first : first + count]
                        made.add_row(first, pairs, range(len(self.panels)), (b, head, first, first + len(pairs)))
                ends.append(len(made.segments if self.has_segments else made.rows))
            classes[b, head] = len(ends) - 2
        return made, classes, ends

    def arrays(self) -> dict[str, Array]:
        """All that `call` points to, by name."""
        made = {name: stored(self._there(name), self.kinds[name]) for name in ("q", "k", "v", "grad_out")}
        for name in ("q", "k", "v"):
            made[f"grad_{name}"] = np.full_like(made[name], 7)  # no result
        made["out"] = np.full_like(made["grad_out"], 7)
        if self.wants_lse:
            made["lse"] = np.full(self.tensors["grad_lse"].shape, 7, np.float32)
        wanted = {"sinks": self.has_sinks, "factor": self.has_factor, "grad_lse": True}
        made |= {name: self.tensors[name].astype(np.float32) for name, is_wanted in wanted.items() if is_wanted}
        lists, classes, ends = self.lists
        made |= lists.arrays() | {"classes": classes, "class_rows": np.array(ends, np.int64)}
        if self.has_bias:
            made["bias"] = np.zeros((self.batch, self.heads, len(lists.biases), ROW, LANES), np.float32)
            for b, head, number, here, pairs in self._bias_panels():
                made["bias"][b, head, number][here] = self.bias[b, head][pairs]
            made["grad_bias"] = np.zeros_like(made["bias"])
        if self.is_permuted:
            made |= dict(zip(("query_at", "key_at"), (each.astype(np.int32) for each in self.order), strict=True))
        if self.page:
            made["pages"] = self.pages
            made |= {name: self._paged(made[name]) for name in ("k", "v")}
        if self.misses:
            made["lengths"] = self.lengths
        return made

    def _there(self, name: str) -> Array:
        """A tensor that is NaN behind the keys that exist."""
        x = self.tensors[name]
        if not self.misses or name not in ("k", "v"):
            return x
        return np.where((np.arange(self.keys) < self.lengths[:, None])[:, None, :, None], x, np.nan)

    def _bias_panels(self) -> Iterator[tuple[int, int, int, tuple[slice, slice], tuple[slice, slice]]]:
        """Of each head of each panel: its biases, which rows and lanes of them, and which pairs these are."""
        for number, (b, head, first, end, start, stop) in enumerate(self.lists[0].biases):
            for n in range(self.fold):
                rows = slice(self.word, self.word + end - first)
                yield b, head + n, number, (rows, slice(0, stop - start)), (slice(first, end), slice(start, stop))

    def _paged(self, x: Array) -> Array:
        """[pages, key heads, page, dim] of [batch, key heads, keys, dim]."""
        pad = self.pages.shape[1] * self.page - self.keys
        cut = np.pad(x, ((0, 0), (0, 0), (0, pad), (0, 0)))
        cut = cut.reshape(*x.shape[:2], self.pages.shape[1], self.page, x.shape[3]).swapaxes(1, 2)
        made = np.zeros((self.pages.size, *cut.shape[2:]), x.dtype)
        made[self.pages[self.pages >= 0]] = cut[self.pages >= 0]
        return made

    def structure(self, arrays: Mapping[str, Array]) -> Structure:
        """`call`, whose pointers are not set."""
        made = structures()["call"]()
        values: dict[str, Any] = {name: getattr(self, name) for name in ("batch", "heads", "key_heads", "queries")}
        values |= {name: getattr(self, name) for name in ("keys", "dim", "value_dim", "key_block", "page", "threads")}
        values |= {"fold": self.fold, "packs": self.packs, "scale": self.scale}
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
            tensor.type = TYPES.index(self.kinds[name])
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
        if self.wants_lse:
            first, size = where["lse"]
            made["lse"] = read(content[first : first + size], "float32").reshape(self.tensors["grad_lse"].shape)
        if self.has_bias and self.wants_gradients:
            first, size = where["grad_bias"]
            panels = read(content[first : first + size], "float32").reshape(self.batch, self.heads, -1, ROW, LANES)
            made["grad_bias"] = np.zeros(self.mask.shape)
            for b, head, number, here, pairs in self._bias_panels():
                made["grad_bias"][b, head][pairs] = panels[b, head, number][here]
        return int(np.frombuffer(content[:8], np.int64)[0]), made


def drawn_cases(seed: int, count: int) -> list[NativeCase]:
    """Random cases. As in the product, gradients are of calls all of whose keys exist, in no pages, and keys that do
    not exist are of calls in declared order; segments have no biases."""
    random = np.random.default_rng(seed)

    def one_of(*values: Any) -> Any:
        return values[random.integers(len(values))]

    cases = []
    for number in range(count):
        page, has_segments, is_permuted = one_of(0, 0, 7, 32), one_of(False, False, True), one_of(False, True)
        misses = not is_permuted and one_of(False, True)
        wants_gradients = not (page or misses)
        cases.append(
            NativeCase(
                seed=seed + number,
                kind=TYPES[number % 3],
                cached=one_of(None, (one_of(*TYPES), one_of(*TYPES))) if page or misses else None,
                batch=one_of(1, 2),
                key_heads=one_of(1, 2),
                group=one_of(1, 1, 3),
                folds=has_segments or one_of(False, True),
                queries=one_of(1, 7, 33),
                keys=one_of(1, 17, 70, 200),
                dim=one_of(1, 5, 16, 64, 80),
                value_dim=one_of(1, 6, 16, 64, 72),
                key_block=one_of(16, 20, 64),
                density=one_of(0.2, 0.6, 1.0),
                has_sinks=one_of(False, True),
                has_factor=one_of(False, True),
                has_bias=not has_segments and one_of(False, True),
                cap=one_of(0.0, 0.0, 1.5),
                is_permuted=is_permuted,
                page=page,
                misses=misses,
                repeats=one_of(False, True),
                has_segments=has_segments,
                packs=one_of(False, True),
                threads=one_of(1, 3),
                wants_lse=wants_gradients or one_of(False, True),
                wants_gradients=wants_gradients,
            )
        )
    return cases
