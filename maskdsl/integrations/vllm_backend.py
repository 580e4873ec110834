"""An attention backend of vLLM: what vLLM calls. What is computed, and which pages are free, is in `serving`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from maskdsl import AttnError, Heads
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.base.libraries import missing
from maskdsl.integrations.layers import Layer, Role, asked_scale
from maskdsl.integrations.serving.page_lives import PageLives
from maskdsl.integrations.serving.paged_layer import PagedLayer
from maskdsl.integrations.serving.pages import EngineStep, KeyPages
from maskdsl.integrations.serving.served_patterns import (
    FULL,
    REGISTERED,
    SLIDING,
    AskedOfLayer,
    ServedModel,
    ServedPatterns,
)

try:
    from vllm.config import VllmConfig, get_current_vllm_config
    from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
    from vllm.model_executor.models.utils import extract_layer_index
    from vllm.platforms import current_platform
    from vllm.v1.attention.backend import (
        AttentionBackend,
        AttentionImpl,
        AttentionMetadataBuilder,
        AttentionType,
        CommonAttentionMetadata,
    )
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend
    from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager
    from vllm.v1.kv_cache_interface import (
        AttentionSpec,
        FullAttentionSpec,
        KVCacheLayout,
        KVCacheSpec,
        SlidingWindowSpec,
        replace_as,
    )
    from vllm.v1.kv_cache_spec_registry import KVCacheSpecRegistry
except ImportError as error:
    raise missing(error, f"`{__name__}`", "vllm") from error

_ROLES: dict[str, Role] = {
    AttentionType.DECODER: "self",
    AttentionType.ENCODER: "encoder",
    AttentionType.ENCODER_ONLY: "encoder",
    AttentionType.ENCODER_DECODER: "cross",
}
_FLOATS_OF_8_BITS = {"fp8": torch.float8_e4m3fn, "fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


class _Serving(NamedTuple):
    """The patterns of the model whose layers were made last."""

    served: ServedPatterns
    ahead: int
    """The most tokens that vLLM computes before it frees pages."""


_serving: list[_Serving] = []


def use() -> type[PatternBackend]:
    """Makes vLLM ask this backend: on a CPU in place of its own, on a GPU where `CUSTOM` is asked for."""
    name = AttentionBackendEnum.CPU_ATTN if current_platform.is_cpu() else AttentionBackendEnum.CUSTOM
    register_backend(name, f"{__name__}.{PatternBackend.__name__}")
    for each in AttentionBackendEnum:
        if "MLA" in each.name:
            register_backend(each, f"{__name__}.{_LatentAttention.__name__}")
    KVCacheSpecRegistry._ensure_registered()  # that of others comes first, and only if nobody was before it
    KVCacheSpecRegistry.register(PatternSpec, _PatternPages, FullAttentionSpec)
    return PatternBackend


class _LatentAttention(AttentionBackend):
    """In place of backends of latent attention, which would compute the model's mask."""

    @staticmethod
    def get_name() -> str:
        return "CPU_MLA"

    @staticmethod
    def get_impl_cls() -> type[PatternImpl]:
        reason = "its cache has one vector for keys and values"
        raise AttnError(errors.NotServed(what="latent attention (MLA)", reason=reason))


class PatternBackend(AttentionBackend):
    """The classes that vLLM asks for, and what they take."""

    forward_includes_kv_cache_update = False
    supported_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16, torch.float32]
    supported_kv_cache_dtypes: ClassVar[list[Any]] = ["auto", "float16", "bfloat16", *_FLOATS_OF_8_BITS]

    @staticmethod
    def get_name() -> str:
        return "CPU_ATTN" if current_platform.is_cpu() else "CUSTOM"

    @staticmethod
    def get_impl_cls() -> type[PatternImpl]:
        return PatternImpl

    @staticmethod
    def get_builder_cls() -> type[StepBuilder]:
        return StepBuilder

    @classmethod
    def supports_sink(cls) -> bool:
        return True

    @classmethod
    def supports_sliding_window(cls) -> bool:
        return True

    @classmethod
    def supports_attn_type(cls, attn_type: str) -> bool:
        return bool(attn_type == AttentionType.DECODER)

    @classmethod
    def supported_kv_cache_layouts(cls) -> tuple[KVCacheLayout, ...]:
        return (KVCacheLayout.LBHNC,)

    @classmethod
    def customize_spec(cls, spec: AttentionSpec) -> AttentionSpec | PatternSpec:
        """The spec of layers whose pages are freed as soon as no pattern of layers of their kind reads them."""
        if not _serving:
            return spec
        (served, ahead), is_sliding = _serving[-1], isinstance(spec, SlidingWindowSpec)
        kinds = served.model.kinds
        alike = {number: kind for number, kind in enumerate(kinds) if (kind == SLIDING) == is_sliding}
        lives = served.lives(alike or dict(enumerate(kinds)), spec.block_size)
        dropped = ("sliding_window", "extra_retained_tokens")
        if lives is None:
            return replace_as(spec, FullAttentionSpec, drop=dropped) if is_sliding else spec
        return replace_as(spec, PatternSpec, drop=dropped, lives=lives, ahead=ahead)


@dataclass(frozen=True, kw_only=True)
class PatternSpec(FullAttentionSpec):
    """The cache of layers whose pages are read for as long as `lives` says."""

    lives: PageLives
    ahead: int
    """The most tokens that are computed before pages are freed."""

    @classmethod
    def merge(cls, specs: list[PatternSpec]) -> PatternSpec:
        assert all(each == specs[0] for each in specs), "layers of a group have one spec"
        return specs[0]

    def copy_with_new_block_size(self, block_size: int) -> PatternSpec:
        lives = replace(self.lives, size=block_size)
        spec: PatternSpec = replace_as(self, PatternSpec, block_size=block_size, lives=lives)
        return spec

    def is_uniform_with_collection(self, kv_cache_specs: dict[str, KVCacheSpec]) -> bool:
        return all(isinstance(each, PatternSpec) and each.lives == self.lives for each in kv_cache_specs.values())

    def max_memory_usage_bytes(self, vllm_config: VllmConfig) -> int:
        return self.lives.most(self.ahead) * int(self.page_size_bytes)


class _PatternPages(FullAttentionManager):
    """Gives pages of a sequence back as soon as no later query attends them."""

    def __init__(self, kv_cache_spec: PatternSpec, **named: Any) -> None:
        super().__init__(kv_cache_spec, **named)
        self._lives = kv_cache_spec.lives
        self._free = dict[str, int]()
        """How many pages of each sequence are free, by request."""
        self.max_admission_blocks_per_request = self._lives.most(kv_cache_spec.ahead)

    def remove_skipped_blocks(
        self, request_id: str, processed_computed_tokens: int, num_prompt_tokens: int | None = None
    ) -> None:
        blocks = self.req_to_blocks.get(request_id)
        if not blocks:
            return
        before, now = self._free.get(request_id, 0), self._lives.free_at(processed_computed_tokens)
        if now > before:
            freed = [page for page in self._lives.order[before:now] if blocks[page] is not self._null_block]
            self.block_pool.free_blocks([blocks[page] for page in reversed(freed)])
            for page in freed:
                blocks[page] = self._null_block
            self._free[request_id] = now

    def pop_blocks_for_free(self, request_id: str) -> list[Any]:
        self._free.pop(request_id, None)
        blocks: list[Any] = super().pop_blocks_for_free(request_id)
        return blocks


class StepBuilder(AttentionMetadataBuilder[EngineStep]):
    """What is computed at once, from what vLLM says about it."""

    def __init__(self, kv_cache_spec: AttentionSpec, layer_names: list[str], vllm_config: Any, device: Any) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        if not _serving or not isinstance(kv_cache_spec, PatternSpec):
            return
        served = _serving[-1].served
        numbers = [extract_layer_index(name) for name in layer_names]
        alike = {number: served.model.kinds[number] for number in numbers if number < len(served.model.kinds)}
        lives = served.lives(alike, kv_cache_spec.block_size)
        assert not alike or (lives is not None and kv_cache_spec.lives.covers(lives)), "pages are freed too early"

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> EngineStep:
        given, count = common_attn_metadata, common_attn_metadata.num_reqs
        if given.causal is not True:
            reason = "tokens attend those that follow, whose keys are not in the cache yet"
            raise AttnError(errors.NotServed(what="a step that is not causal", reason=reason))
        return EngineStep(
            given.num_actual_tokens,
            given.query_start_loc[: count + 1],
            given.seq_lens[:count],
            given.block_table_tensor[:count],
            given.max_query_len,
        )


class PatternImpl(AttentionImpl[EngineStep]):
    """The attention of one layer."""

    def __init__(
        self,
        num_heads: int,
        head_size: int,
        scale: float,
        num_kv_heads: int | None = None,
        alibi: list[float] | None = None,
        sliding_window: int | None = None,
        kv_cache_dtype: str = "auto",
        logits_soft_cap: float | None = None,
        attn_type: str = AttentionType.DECODER,
        kv_sharing_target_layer_name: str | None = None,
        sinks: Tensor | None = None,
    ) -> None:
        if kv_cache_dtype not in PatternBackend.supported_kv_cache_dtypes:
            what, known = f"a cache of {kv_cache_dtype}", ", ".join(PatternBackend.supported_kv_cache_dtypes)
            raise AttnError(errors.NotServed(what=what, reason=f"`--kv-cache-dtype` may be {known}"))
        config = get_current_vllm_config()
        self.num_heads, self.head_size, self.scale = num_heads, head_size, float(scale)
        self.num_kv_heads, self.kv_cache_dtype = num_kv_heads or num_heads, kv_cache_dtype
        self._role, self._sinks = _ROLES[attn_type], sinks
        asked = asked_scale(torch.empty(1, 1, 1, head_size, device="meta"), float(scale))
        self._asked = AskedOfLayer(asked, logits_soft_cap or None, sliding_window, alibi is not None, sinks)
        self._dtype = _FLOATS_OF_8_BITS.get(kv_cache_dtype)
        self._heads = _heads_here(config, num_heads)
        self._served = _served(config, self._asked.window)
        self._layer: PagedLayer | None = None

    def forward(
        self,
        layer: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kv_cache: Tensor,
        attn_metadata: EngineStep | None,
        output: Tensor,
        output_scale: Tensor | None = None,
        output_block_scale: Tensor | None = None,
    ) -> Tensor:
        if attn_metadata is None:  # before there is a cache
            return output.zero_()
        if self._layer is None:
            number = extract_layer_index(layer.layer_name)
            kinds = self._served.model.kinds
            kind = kinds[number] if number < len(kinds) else (FULL if self._asked.window is None else SLIDING)
            self._layer = self._served.layer(Layer(number, kind, self._role), self._heads, self._asked)
        self._layer.attend(query, self._pages(layer, kv_cache), attn_metadata, output)
        return output

    def do_kv_cache_update(
        self, layer: Any, key: Tensor, value: Tensor, kv_cache: Tensor, slot_mapping: Tensor
    ) -> None:
        self._pages(layer, kv_cache).write(key, value, slot_mapping)

    def _pages(self, layer: Any, kv_cache: Tensor) -> KeyPages:
        scales = None if self._dtype is None else (layer._k_scale, layer._v_scale)
        return KeyPages.of(kv_cache, self.head_size, self._dtype, scales)


def _heads_here(config: VllmConfig, count: int) -> Heads:
    """The heads of a layer that this process has."""
    processes, rank = get_tensor_model_parallel_world_size(), get_tensor_model_parallel_rank()
    return Heads(count * processes, config.model_config.get_total_num_kv_heads(), rank * count, count)


def _served(config: VllmConfig, window: int | None) -> ServedPatterns:
    """The patterns of the model that is made, one for all of its layers."""
    text, registered = config.model_config.hf_text_config, REGISTERED["vllm"]
    kinds = getattr(text, "layer_types", None) or [FULL if window is None else SLIDING] * text.num_hidden_layers
    heads = Heads(text.num_attention_heads, config.model_config.get_total_num_kv_heads())
    of_sliding = getattr(text, "sliding_window", None)
    model = ServedModel(config.model_config.max_model_len, tuple(kinds), heads, of_sliding)
    if not _serving or _serving[-1].served.registered is not registered or _serving[-1].served.model != model:
        _serving[:] = [_Serving(ServedPatterns(registered, model), config.max_in_flight_tokens)]
    return _serving[-1].served
