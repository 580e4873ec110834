"""A model of transformers trained with its tokens, and its heads, on four processes: the losses of one process."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import maskdsl
from maskdsl import AttnError
from tests.distributed.processes import on_processes
from tests.integrations.tiny import causal_model

transformers = pytest.importorskip("transformers")
from transformers.distributed.tensor_parallel import apply_tensor_parallelism  # noqa: E402

from maskdsl.integrations.transformers import ModelShards, register  # noqa: E402

MODULE = maskdsl.parse("""
pattern packed(n, size = 40) {
    space tokens[n]
    input document: int[batch, tokens]
    attend causal and backward(size * (head + 1)) and same(document)
}
pattern by_head(n) {
    space tokens[n]
    input document: int[batch, tokens]
    attend causal if head < heads // 2 else causal and dilated(3)
    require same(document)
}
""")
LENGTH, STEPS = 203, 14


def _loss(logits: Tensor, labels: Tensor, vocab_size: int, num_items_in_batch: Any = None, **named: Any) -> Tensor:
    """The library's loss, which is computed in float32, in the type of the logits."""
    shifted = named.get("shift_labels")
    shifted = nn.functional.pad(labels, (0, 1), value=-100)[..., 1:] if shifted is None else shifted
    total = nn.functional.cross_entropy(logits.flatten(0, 1), shifted.flatten(), ignore_index=-100, reduction="sum")
    return total / ((shifted != -100).sum() if num_items_in_batch is None else num_items_in_batch)


def _model() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
    config = transformers.LlamaConfig(
        **sizes,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="sharded",
    )
    model = transformers.LlamaForCausalLM(config).double()
    for each in [
        each for each in model.modules() if isinstance(each, transformers.models.llama.modeling_llama.LlamaDecoderLayer)
    ]:
        each.input_layernorm, each.post_attention_layernorm = (
            nn.RMSNorm(32, 1e-6, dtype=torch.float64) for _ in range(2)
        )
    model.model.norm = nn.RMSNorm(32, 1e-6, dtype=torch.float64)
    model.loss_function = _loss
    return model


def _batches() -> list[dict[str, Tensor]]:
    """Whole batches of packed texts, whose lengths differ from batch to batch."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for number in range(3):
        tokens = torch.randint(0, 64, (2, LENGTH), generator=generator)
        starts = torch.rand(2, LENGTH, generator=generator) < 0.02 * (number + 1)
        starts[:, 0] = True
        index = torch.arange(LENGTH).expand(2, -1)
        first = torch.where(starts, index, 0).cummax(1).values
        labels = torch.where(starts, -100, tokens)
        batches.append(
            {"input_ids": tokens, "labels": labels, "position_ids": index - first, "document": starts.cumsum(1)}
        )
    return batches


def _trained(
    model: Any, of: Callable[[Mapping[str, Any]], Mapping[str, Any]], after: Callable[[], None]
) -> list[Tensor]:
    """The losses of some steps."""
    optimizer, batches, losses = torch.optim.AdamW(model.parameters(), 1e-2, foreach=False), _batches(), []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(**of(batches[step // 2 % 3])).loss
        loss.backward()
        after()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def _register() -> None:
    register("sharded", {0: MODULE["packed"], 1: MODULE["by_head"]}, masks="pattern")


def _parallel(model: Any, mesh: DeviceMesh) -> Any:
    """The model with heads and features shared along a mesh."""
    column, row = ColwiseParallel(), RowwiseParallel()
    attention = {f"self_attn.{each}_proj": column for each in "qkv"} | {"self_attn.o_proj": row}
    feed_forward = {"mlp.gate_proj": column, "mlp.up_proj": column, "mlp.down_proj": row}
    for layer in model.model.layers:
        parallelize_module(layer, mesh, attention | feed_forward)
    return model


def _one() -> list[Tensor]:
    _register()
    return _trained(_model(), dict, lambda: None)


def _on_four(more: bool) -> dict[str, list[Tensor]]:
    """Losses by how four processes share a model."""
    _register()
    mesh, every = init_device_mesh("cpu", (2, 2), mesh_dim_names=("tp", "cp")), init_device_mesh("cpu", (4,))

    def with_heads(share: Callable[[Any, DeviceMesh], Any]) -> list[Tensor]:
        model = share(_model(), mesh["tp"])
        shards = ModelShards(model, mesh["cp"], block=16)
        return [shards.total(each) for each in _trained(model, shards.of, shards.sum_gradients)]

    def fully_sharded(model: Any, mesh: DeviceMesh) -> list[Tensor]:
        for each in (*model.model.layers, model):
            fully_shard(each, mesh=mesh)
        shards = ModelShards(model, mesh, averaged=True, block=16)
        return [shards.total(each) for each in _trained(model, shards.of, shards.sum_gradients)]

    def with_tokens(averaged: bool) -> list[Tensor]:
        model = _model()
        shards = ModelShards(model, every if averaged else every.get_group(), averaged=averaged, block=16)
        called = DistributedDataParallel(model) if averaged else model
        return [shards.total(each) for each in _trained(called, shards.of, shards.sum_gradients)]

    with pytest.raises(AttnError, match="`input_ids` of a batch for several processes are others on other processes"):
        ModelShards(_model(), every).of({"input_ids": torch.full((2, LENGTH), dist.get_rank())})
    results = {"heads and tokens": with_heads(_parallel), "tokens": with_tokens(averaged=False)}
    if more:
        results |= {"by its plan": with_heads(apply_tensor_parallelism), "averaged": with_tokens(averaged=True)}
        results["fully sharded"] = fully_sharded(_model(), every)
        results["fully sharded, with heads"] = fully_sharded(_parallel(_model(), mesh["tp"]), mesh["cp"])
    return results


@pytest.mark.parametrize("more", [False, pytest.param(True, marks=pytest.mark.long)])
def test_four_processes_train_as_one_does(more: bool) -> None:
    expected = torch.stack(_one())
    assert expected[0] - expected[-1] > 0.5
    for results in on_processes(4, _on_four, more):
        for name, losses in results.items():
            assert (torch.stack(losses) - expected).abs().max() < 1e-9, name


@pytest.fixture
def group() -> Iterator[dist.ProcessGroup]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["gemma3_text", "gpt2", "gpt_oss", "qwen3_moe"])
def test_models_hand_tokens_on(group: dist.ProcessGroup, kind: str) -> None:
    register("causal", MODULE["causal_dense"])
    model = causal_model(kind, "causal")
    tokens = torch.randint(3, 60, (2, 50))
    batch = {"input_ids": tokens, "labels": tokens, "attention_mask": torch.ones_like(tokens)}
    expected = model(**batch)
    shards = ModelShards(model, group)
    found = model(**shards.of(batch))
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(shards.tokens.gather(found.logits, 1), expected.logits)


def test_padding_at_the_end(group: dist.ProcessGroup) -> None:
    register("causal", MODULE["causal_dense"])
    model = causal_model("llama", "causal")
    tokens, lengths = torch.randint(3, 60, (2, 50)), torch.tensor([50, 31])
    is_token = torch.arange(50) < lengths[:, None]
    batch = {"input_ids": tokens, "labels": torch.where(is_token, tokens, -100), "attention_mask": is_token.long()}
    expected, shards = model(**batch), ModelShards(model, group)
    found = model(**shards.of(batch))
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(shards.tokens.gather(found.logits, 1)[is_token], expected.logits[is_token])


def test_layers_that_are_recomputed_have_the_tokens_of_their_batch(group: dist.ProcessGroup) -> None:
    register("sharded", MODULE["packed"], masks="pattern")
    gradients = []
    for reentrant in (None, False, True):
        model = causal_model("llama", "sharded").train()
        if reentrant is not None:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        shards = ModelShards(model, group)
        losses = [model(**shards.of(batch)).loss for batch in _batches()[:2]]  # a plan each
        sum(losses).backward()
        gradients.append([each.grad for each in model.parameters()])
    for each in gradients[1:]:
        torch.testing.assert_close(each, gradients[0])


def test_what_is_refused(group: dist.ProcessGroup) -> None:
    register("causal", MODULE["causal_dense"])
    model = causal_model("llama", "sdpa")
    tokens = torch.randint(3, 60, (2, 50))
    with pytest.raises(AttnError, match="its layer 0 has no pattern"):
        ModelShards(model, group).of({"input_ids": tokens})
    model.set_attn_implementation("causal")
    shards = ModelShards(model, group)
    with pytest.raises(AttnError, match="`tokens` of a batch for several processes are known after `of`"):
        shards.tokens  # noqa: B018
    first, last = (torch.ones_like(tokens).index_fill(1, torch.tensor([at]), 0) for at in (0, 49))
    register("sharded", MODULE["packed"], masks="pattern")
    packed = ModelShards(causal_model("llama", "sharded"), group)
    for each, padding in ((shards, first), (shards, last[:, None]), (packed, last)):
        with pytest.raises(AttnError, match="`attention_mask` of a batch for several processes hides tokens"):
            each.of({"input_ids": tokens, "attention_mask": padding, "document": tokens})
    with pytest.raises(AttnError, match="`position_ids` of a batch for several processes begin anew"):
        shards.of({"input_ids": tokens, "position_ids": torch.arange(50).expand(2, -1) % 30})
    for batch, says in (({}, "are missing"), ({"input_ids": tokens.tolist()}, "are of the type list")):
        with pytest.raises(AttnError, match=f"`input_ids` of a batch for several processes {says}"):
            shards.of(batch)
    with pytest.raises(AttnError, match="`group` is a mesh of 2 dimensions"):
        ModelShards(model, init_device_mesh("cpu", (1, 1)))
    with pytest.raises(AttnError, match="`past_key_values` of a batch"):
        shards.of({"input_ids": tokens, "past_key_values": object()})
    with pytest.raises(AttnError, match="it has `linear_attention`, `Conv1d`"):
        ModelShards(causal_model("bamba", "sdpa"), group)
    mixture = causal_model("qwen3_moe", "causal", output_router_logits=True)
    with pytest.raises(AttnError, match="its loss is not the mean over the next tokens"):
        ModelShards(mixture, group).of({"input_ids": tokens, "labels": tokens})
    assert {"input_ids", "position_ids"} < ModelShards(mixture, group).of({"input_ids": tokens}).keys()
