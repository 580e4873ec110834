"""Of vLLM what the backend imports, as plain classes, for tests where it is not installed."""

import sys
from dataclasses import dataclass, fields
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any, Generic, TypeVar

import pytest
import torch

T = TypeVar("T")


class Base(Generic[T]):
    """Of backends, builders and implementations."""

    def __init__(self, *given: Any) -> None:
        self.given = given


class AttentionType:
    DECODER, ENCODER, ENCODER_ONLY, ENCODER_DECODER = "decoder", "encoder", "encoder_only", "encoder_decoder"


@dataclass(frozen=True, kw_only=True)
class FullAttentionSpec:
    block_size: int
    num_kv_heads: int = 2
    head_size: int = 32
    page_size_bytes: int = 100


@dataclass(frozen=True, kw_only=True)
class SlidingWindowSpec(FullAttentionSpec):
    sliding_window: int
    extra_retained_tokens: int = 0


def replace_as(spec: Any, kind: type, *, drop: tuple[str, ...] = (), **changes: Any) -> Any:
    kept = {each.name: getattr(spec, each.name) for each in fields(spec) if each.name not in drop}
    return kind(**{**kept, **changes})


class Block:
    """A page."""

    def __init__(self, block_id: int) -> None:
        self.block_id = block_id


class FullAttentionManager:
    """The pages of requests, of a pool that gives the page that was freed last."""

    def __init__(self, kv_cache_spec: Any, block_pool: Any) -> None:
        self.block_pool, self._null_block = block_pool, block_pool.null_block
        self.req_to_blocks: dict[str, list[Block]] = {}

    def pop_blocks_for_free(self, request_id: str) -> list[Block]:
        return self.req_to_blocks.pop(request_id)


class Pool:
    null_block = Block(0)

    def __init__(self) -> None:
        self.freed: list[int] = []

    def free_blocks(self, blocks: list[Block]) -> None:
        self.freed += [each.block_id for each in blocks]


class Registry:
    """Of specs, and of backends."""

    registered: dict[Any, Any] = {}  # noqa: RUF012

    @classmethod
    def _ensure_registered(cls) -> None: ...

    @classmethod
    def register(cls, spec: type, manager: type, base: type) -> None:
        cls.registered[spec] = manager


CONFIG = SimpleNamespace(
    max_in_flight_tokens=40,
    model_config=SimpleNamespace(
        max_model_len=128,
        get_total_num_kv_heads=lambda: 2,
        hf_text_config=SimpleNamespace(num_hidden_layers=2, num_attention_heads=4),
    ),
)
"""Of a model with two layers, four heads, and two key heads."""
PARALLEL = SimpleNamespace(rank=0, size=1)
MODULES: dict[str, dict[str, Any]] = {
    "vllm": {},
    "vllm.config": {"VllmConfig": object, "get_current_vllm_config": lambda: CONFIG},
    "vllm.distributed": {
        "get_tensor_model_parallel_rank": lambda: PARALLEL.rank,
        "get_tensor_model_parallel_world_size": lambda: PARALLEL.size,
    },
    "vllm.model_executor": {},
    "vllm.model_executor.models": {},
    "vllm.model_executor.models.utils": {"extract_layer_index": lambda name: int(name.split(".")[-2])},
    "vllm.platforms": {"current_platform": SimpleNamespace(is_cpu=lambda: True)},
    "vllm.v1": {},
    "vllm.v1.attention": {},
    "vllm.v1.attention.backend": {
        **dict.fromkeys(("AttentionBackend", "AttentionImpl", "AttentionMetadataBuilder"), Base),
        "AttentionType": AttentionType,
        "CommonAttentionMetadata": object,
    },
    "vllm.v1.attention.backends": {},
    "vllm.v1.attention.backends.registry": {
        "AttentionBackendEnum": Enum("AttentionBackendEnum", ["CPU_ATTN", "CUSTOM", "CPU_MLA", "FLASHMLA"]),
        "register_backend": Registry.registered.__setitem__,
    },
    "vllm.v1.core": {},
    "vllm.v1.core.single_type_kv_cache_manager": {"FullAttentionManager": FullAttentionManager},
    "vllm.v1.kv_cache_interface": {
        **dict.fromkeys(("AttentionSpec", "KVCacheSpec"), object),
        "FullAttentionSpec": FullAttentionSpec,
        "SlidingWindowSpec": SlidingWindowSpec,
        "replace_as": replace_as,
        "KVCacheLayout": SimpleNamespace(LBHNC="LBHNC"),
    },
    "vllm.v1.kv_cache_spec_registry": {"KVCacheSpecRegistry": Registry},
}


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts these modules where vLLM's would be."""
    for name, members in MODULES.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "maskdsl.integrations.vllm_backend", raising=False)


def metadata(step: dict[str, Any]) -> SimpleNamespace:
    """`CommonAttentionMetadata` of a recorded step."""
    starts, lengths = (torch.tensor(step[name], dtype=torch.int32) for name in ("starts", "lengths"))
    return SimpleNamespace(
        num_reqs=len(lengths),
        num_actual_tokens=step["tokens"],
        max_query_len=int(torch.diff(starts).max()),
        query_start_loc=starts,
        seq_lens=lengths,
        block_table_tensor=torch.tensor(step["table"], dtype=torch.int32),
        slot_mapping=torch.tensor(step["slots"]),
        causal=True,
    )
