"""Two steps of training on packed texts, as collators make them, against the library's own on padded ones."""

from importlib import import_module

import pytest
import torch

import maskdsl

transformers = pytest.importorskip("transformers")
from maskdsl.integrations import transformers as integration  # noqa: E402
from tests.integrations.tiny import tiny  # noqa: E402
from tests.support.side_libraries import side_library  # noqa: E402

LENGTHS = (5, 9, 4)
MODULE = maskdsl.parse("pattern local(n, size = 6) { space tokens[n] attend causal and backward(size) }")
TEXTS = [torch.randint(3, 60, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in LENGTHS]


def by_hand():
    tokens = torch.tensor([token for text in TEXTS for token in text])[None]
    labels = torch.tensor([token for text in TEXTS for token in (-100, *text[1:])])[None]
    position_ids = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    return {"input_ids": tokens, "labels": labels, "position_ids": position_ids}


def flattened(**options):
    collator = transformers.DataCollatorWithFlattening(return_tensors="pt", **options)
    return dict(collator([{"input_ids": text} for text in TEXTS]))


def by_trl():
    side_library("trl")
    trainer = import_module("trl.trainer.sft_trainer")
    collator = trainer.DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    return dict(collator([{"input_ids": text} for text in TEXTS]))


def padded():
    tokens, labels = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(text) for text in TEXTS], True, value) for value in (0, -100)
    )
    return {"input_ids": tokens, "labels": labels, "attention_mask": (labels != -100).long()}


def steps(attention, given, kind):
    """The losses of two steps and the gradients of the second."""
    transformers.set_seed(0)
    model = kind(tiny(kind.config_class, sliding_window=6)).train()
    model.set_attn_implementation(attention)
    optimizer, losses = torch.optim.SGD(model.parameters(), 0.5), []
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(**given, use_cache=False).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), {name: each.grad for name, each in model.named_parameters()}


COLLATORS = {
    "position_ids": by_hand,
    "flattening": flattened,
    "flattening_lengths": lambda: flattened(return_flash_attn_kwargs=True),
    "lengths_alone": lambda: flattened(return_position_ids=False, return_flash_attn_kwargs=True),
    "trl": by_trl,
}


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "MistralForCausalLM"])
@pytest.mark.parametrize("collated", COLLATORS.values(), ids=COLLATORS)
def test_packed_texts_train_as_padded_ones(collated, kind):
    integration.register("packed_training", MODULE["causal_dense" if kind.startswith("Llama") else "local"])
    model = getattr(transformers, kind)
    given = {name: value for name, value in collated().items() if isinstance(value, torch.Tensor | int)}
    assert given["input_ids"].shape == (1, sum(LENGTHS)) and "attention_mask" not in given
    losses, gradients = steps("packed_training", given, model)
    expected, wanted = steps("eager", padded(), model)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    assert float(expected[1]) < float(expected[0])
    for name, grad in gradients.items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-3, atol=1e-6, msg=name)
