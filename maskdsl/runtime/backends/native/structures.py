"""The structures of `codegen/native.c`, as ctypes and numpy see them: the same fields in the same order."""

from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from struct import pack_into

import numpy as np
import torch
from torch import Tensor

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""The types of q, k and v that the kernel takes, and their numbers."""
CACHE_TYPES = {**TYPES, torch.float8_e4m3fn: 3, torch.float8_e5m2: 4}
"""Those of k and v alone, going forward."""
LANES = 16
"""Keys of a panel."""
LARGEST_ROW = 64
"""Queries of a row, with those of all its heads."""
ROW = np.dtype([(name, "i4") for name in ("first", "count", "run", "runs", "word")])
SEGMENT = np.dtype([(name, "i4") for name in ("first", "count", "row", "rows")])
RUN = np.dtype([("panel", "i4"), ("panels", "i4"), ("mask", "i4"), ("bias", "i4")])


class _StridedTensor(Structure):
    _fields_ = (("data", c_void_p), ("batch", c_int64), ("head", c_int64), ("token", c_int64), ("type", c_int64))


class CallStructure(Structure):
    """`call` of native.c, which says what each field is."""

    _fields_ = (
        *((name, c_int32) for name in ("fold", "batch", "heads", "key_heads", "queries", "keys")),
        *((name, c_int32) for name in ("dim", "value_dim", "key_block", "page", "threads", "packs")),
        ("scale", c_float),
        ("cap", c_float),
        *((name, _StridedTensor) for name in ("q", "k", "v", "out", "grad_out", "grad_q", "grad_k", "grad_v")),
        *((name, c_void_p) for name in ("lse", "sinks", "factor", "grad_lse", "bias", "grad_bias", "numbers")),
        *((name, c_void_p) for name in ("query_terms", "key_terms", "grad_query_terms", "grad_key_terms")),
        *((name, c_int64) for name in ("bias_batch", "bias_head", "biases")),
        ("height", c_int32),
        ("query_at", c_void_p),
        ("key_at", c_void_p),
        *((f"{side}_at_{axis}", c_int64) for side in ("query", "key") for axis in ("batch", "head")),
        ("pages", c_void_p),
        ("pages_batch", c_int64),
        ("lengths", c_void_p),
        *((name, c_void_p) for name in ("classes", "class_rows", "rows", "runs", "words", "segments", "members")),
    )

    def set_tensors(self, *tensors: Tensor) -> None:
        """Points the fields from `q` on to tensors [batch, heads, tokens, dim], whose dims lie side by side."""
        numbers: list[int] = []
        for x in tensors:
            batch, head, token, _ = x.stride()
            numbers += (x.data_ptr(), batch, head, token, CACHE_TYPES[x.dtype])
        pack_into(f"{len(numbers)}q", self, _FIRST_TENSOR, *numbers)


_FIRST_TENSOR: int = CallStructure.q.offset


def with_dims_together(x: Tensor) -> Tensor:
    """x, or a copy of it, whose dims lie side by side."""
    return x if x.stride(3) == 1 or x.shape[3] == 1 else x.contiguous()
