"""The classes that vLLM calls, without it: its base classes are stand-ins, and what it says of steps was recorded.

`python -m tests.served.recorded` records; `make test-vllm` runs vLLM itself, and its results are committed.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl import AttnError
from maskdsl.integrations import vllm
from tests.served.masks import DENSE, TEXT
from tests.support.stand_in_vllm import (
    PARALLEL,
    Block,
    FullAttentionSpec,
    Pool,
    Registry,
    SlidingWindowSpec,
    metadata,
    stand_in,
)

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((ROOT / "tests" / "served" / "steps.json").read_text())
MODULE = maskdsl.parse(TEXT)
LAYER = SimpleNamespace(layer_name="model.layers.1.attn", _k_scale=torch.tensor(0.02), _v_scale=torch.tensor(0.01))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, over stand-ins."""
    stand_in(monkeypatch)
    vllm.register(MODULE[RECORDED["pattern"]])
    yield sys.modules["maskdsl.integrations.vllm_backend"]
    vllm.REGISTERED.clear()
    sys.modules.pop("maskdsl.integrations.vllm_backend")


def attended(q: Tensor, k: Tensor, v: Tensor, count: int) -> Tensor:
    """The last outputs of one sequence, [count, heads, dim], by the dense mask; q, k and v are [tokens, heads, dim]."""
    q, k, v = (x.double().transpose(0, 1)[None] for x in (q, k, v))
    k, v = (x.repeat_interleave(2, dim=1) for x in (k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, DENSE[RECORDED["pattern"]](q, k))
    return out[0].transpose(0, 1)[-count:]


def replayed(backend: Any, dtype: str, rows: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """What the layer computes in each step, and what it should; `rows` rounds keys and values as the cache does."""
    torch.manual_seed(0)
    impl = backend.PatternImpl(4, 32, 32**-0.5, 2, kv_cache_dtype=dtype)
    builder = backend.StepBuilder(FullAttentionSpec(block_size=16), [LAYER.layer_name], None, "cpu")
    kind = torch.float32 if dtype == "auto" else torch.uint8
    cache = torch.full((RECORDED["blocks"], 2, 16, 64), 0x7F).to(kind)  # of 8 bits that is NaN
    cache = cache * torch.nan if dtype == "auto" else cache
    texts = dict[int, list[Tensor]]()
    for step in RECORDED["steps"]:
        given = metadata(step)
        q, (k, v) = torch.randn(step["tokens"] + 2, 4, 32), torch.randn(2, step["tokens"] + 2, 2, 32)
        impl.do_kv_cache_update(LAYER, k, v, cache, given.slot_mapping)
        out = torch.full_like(q, torch.nan)
        impl.forward(LAYER, q, k, v, cache, builder.build(0, given), out)
        for number, length in enumerate(step["lengths"]):
            start, end = step["starts"][number : number + 2]
            text = step["texts"][number]
            before = [] if length == end - start else texts[text]
            new = [q[start:end], *rows(k[start:end], v[start:end])]
            texts[text] = [torch.cat(each) for each in zip(before, new, strict=True)] if before else new
            yield out[start:end].double(), attended(*texts[text], end - start)


def test_recorded_steps(backend: Any) -> None:
    """Chunks and single tokens, in pages that others had before; memory of nobody is NaN."""
    results = [*replayed(backend, "auto", lambda k, v: (k, v))]
    assert len(results) > 80
    for out, expected in results:
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "dtype"), [("fp8", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2)])
def test_recorded_steps_in_8_bits(backend: Any, name: str, dtype: torch.dtype) -> None:
    """Keys and values are written and read with the scales of the layer."""
    assert name in backend.PatternBackend.supported_kv_cache_dtypes

    def rounded(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return tuple((x / scale).to(dtype).float() * scale for x, scale in ((k, 0.02), (v, 0.01)))

    for out, expected in replayed(backend, name, rounded):
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


def test_caches_that_are_not_read(backend: Any) -> None:
    for name in ("fp8_per_token_head", "nvfp4", "turboquant_k8v4"):
        with pytest.raises(AttnError, match=f"E641.*a cache of {name}"):
            backend.PatternImpl(4, 32, 32**-0.5, 2, kv_cache_dtype=name)


def test_pages_that_vllm_gives_back(backend: Any) -> None:
    """Those that no later query attends, each once; never one that is still read."""
    backend.PatternImpl(4, 32, 32**-0.5, 2)
    spec = backend.PatternBackend.customize_spec(FullAttentionSpec(block_size=16))
    assert isinstance(spec, backend.PatternSpec) and Registry.registered[type(spec)] is backend._PatternPages
    pool, dense = Pool(), DENSE[RECORDED["pattern"]](torch.empty(1, 1, 128, 1), torch.empty(0))[0]
    pages = backend._PatternPages(spec, block_pool=pool)
    pages.remove_skipped_blocks("a", 50)  # before it has pages
    pages.req_to_blocks["a"] = blocks = [Block(each) for each in range(1, 9)]
    for position in range(0, 128, 3):
        pages.remove_skipped_blocks("a", position)
        live = dense[position:].unflatten(1, (8, 16)).any(2).any(0)
        live |= torch.arange(16, 129, 16) > position  # not computed yet
        assert [each.block_id for each in blocks] == [page + 1 if live[page] else 0 for page in range(8)]
    assert sorted(pool.freed) == [2, 3, 4, 5, 6]
    assert pages.pop_blocks_for_free("a") is blocks and not pages._free
    assert spec.max_memory_usage_bytes(None) == pages.max_admission_blocks_per_request * 100


def test_specs_of_groups(backend: Any) -> None:
    backend.PatternImpl(4, 32, 32**-0.5, 2)
    customized = backend.PatternBackend.customize_spec
    plain, sliding = FullAttentionSpec(block_size=16), SlidingWindowSpec(block_size=16, sliding_window=8)
    spec = customized(plain)
    assert customized(sliding) == spec == backend.PatternSpec.merge([spec, customized(plain)])
    assert spec.copy_with_new_block_size(32) == customized(FullAttentionSpec(block_size=32))
    assert spec.is_uniform_with_collection({"a": spec}) and not spec.is_uniform_with_collection({"a": plain})
    vllm.register(MODULE["moba"])
    backend = sys.modules["maskdsl.integrations.vllm_backend"]
    backend.PatternImpl(4, 32, 32**-0.5, 2)
    assert backend.PatternBackend.customize_spec(plain) is plain
    assert type(backend.PatternBackend.customize_spec(sliding)) is FullAttentionSpec


def test_layers_of_another_group_are_refused(backend: Any) -> None:
    vllm.register({0: MODULE["window"], 1: MODULE["causal"]})
    backend.PatternImpl(4, 32, 32**-0.5, 2)
    served = backend._serving[-1].served
    lives = served.lives({0: "full_attention"}, 16)
    spec = backend.PatternSpec(block_size=16, lives=lives, ahead=40)
    backend.StepBuilder(spec, ["model.layers.0.attn"], None, "cpu")
    with pytest.raises(AssertionError, match="freed too early"):
        backend.StepBuilder(spec, ["model.layers.0.attn", "model.layers.1.attn"], None, "cpu")


def test_heads_of_a_process(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under tensor parallelism each process has some, and the pattern knows which; two may share a key head."""
    vllm.register(MODULE["heads"])
    q, cache = torch.randn(40, 4, 32), torch.randn(4, 2, 16, 64)
    step = metadata({"tokens": 40, "starts": [0, 40], "lengths": [40], "table": [[1, 2, 3]], "slots": []})
    out = dict[int, Tensor]()
    for processes in (1, 2, 4):
        monkeypatch.setattr(PARALLEL, "size", processes)
        for rank in range(processes):
            monkeypatch.setattr(PARALLEL, "rank", rank)
            count = 4 // processes
            key_count, first = max(count // 2, 1), rank * 2 // processes
            here, keys = slice(rank * count, rank * count + count), slice(first, first + key_count)
            impl = backend.PatternImpl(count, 32, 32**-0.5, key_count)
            builder = backend.StepBuilder(FullAttentionSpec(block_size=16), [], None, "cpu")
            part = torch.empty(40, count, 32)
            impl.forward(LAYER, q[:, here], q, q, cache[:, keys], builder.build(0, step), part)
            out[processes] = torch.cat([out[processes], part], dim=1) if rank else part
    torch.testing.assert_close(out[2], out[1])
    torch.testing.assert_close(out[4], out[1])


def test_what_vllm_asks_for(backend: Any) -> None:
    """Backends by their paths: latent attention is refused."""
    paths = {each.name: path for each, path in Registry.registered.items() if isinstance(path, str)}
    assert paths.keys() == {"CPU_ATTN", "CPU_MLA", "FLASHMLA"}
    own, latent = (getattr(backend, paths[name].rpartition(".")[2]) for name in ("CPU_ATTN", "CPU_MLA"))
    assert own.get_impl_cls() is backend.PatternImpl and own.get_builder_cls() is backend.StepBuilder
    with pytest.raises(AttnError, match="E641"):
        latent.get_impl_cls()


def test_what_is_before_a_cache_and_what_is_not_causal(backend: Any) -> None:
    impl = backend.PatternImpl(4, 32, 32**-0.5, 2)
    assert not impl.forward(LAYER, *[torch.ones(3, 4, 32)] * 3, torch.empty(0), None, torch.ones(3, 4, 32)).any()
    step = metadata(RECORDED["steps"][0])
    step.causal = False
    with pytest.raises(AttnError, match="E641"):
        backend.StepBuilder(FullAttentionSpec(block_size=16), [], None, "cpu").build(0, step)
    encoder = backend.PatternImpl(4, 32, 32**-0.5, 2, attn_type="encoder_only")
    with pytest.raises(AttnError, match="E641"):
        encoder.forward(LAYER, *[torch.ones(3, 4, 32)] * 3, torch.empty(0), SimpleNamespace(), torch.ones(3, 4, 32))


def test_vllm_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "maskdsl.integrations.vllm_backend", raising=False)
    with pytest.raises(AttnError, match=r"E610[\s\S]*pip install \"maskdsl\[vllm\]\""):
        vllm.register(MODULE["window"])
    assert not vllm.REGISTERED
    with pytest.raises(ImportError):
        import_module("maskdsl.integrations.vllm_backend")
