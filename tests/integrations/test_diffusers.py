"""Transformers of diffusers with patterns: dense ones give the model's own result, others that of a mask of pairs."""

from copy import deepcopy

import pytest
import torch
from torch.overrides import TorchFunctionMode

import maskdsl

pytest.importorskip("diffusers")
from maskdsl.integrations import diffusers as integration
from tests.integrations.diffusion_models import BY_PATTERN, FLUX, MODULE, OTHERS, PADDED, WAN


class Masked(TorchFunctionMode):
    """The reference: torch's attention with a mask of pairs, among as many tokens."""

    def __init__(self, pairs):
        super().__init__()
        self.pairs = pairs

    def __torch_function__(self, func, types, args=(), kwargs=None):
        named = dict(kwargs or {})
        own = func is torch.nn.functional.scaled_dot_product_attention
        given = dict(zip(("query", "key"), args, strict=False)) | named
        if own and given["query"].shape[2] == given["key"].shape[2]:
            named["attn_mask"] = self.pairs
        return func(*args, **named)


@pytest.fixture(params=BY_PATTERN.values(), ids=BY_PATTERN)
def case(request):
    return *request.param.made(), request.param.mask


def result(model, given):
    return model(**given, return_dict=False)[0]


def result_and_gradients(model, given):
    """The result, and the gradients of all weights that it has."""
    model.zero_grad()
    out = result(model, given)
    out.square().sum().backward()
    return out, {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}


def test_dense(case):
    model, given, _ = case
    expected = result(model, given)
    integration.use(model, MODULE["dense"])
    torch.testing.assert_close(result(model, given), expected)


def test_neighbourhoods_and_gradients(case):
    model, given, mask = case
    whole = result(model, given)
    with Masked(torch.tensor(mask.dense())):
        expected = result(model, given)
    integration.use(model, mask)
    found = result(model, given)
    torch.testing.assert_close(found, expected)
    assert (found - whole).abs().max() > 1e-3
    found.square().sum().backward()
    ours = {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}
    integration.restore(model)
    model.zero_grad()
    with Masked(torch.tensor(mask.dense())):
        result(model, given).square().sum().backward()
    for name, grad in ours.items():
        torch.testing.assert_close(grad, model.get_parameter(name).grad, rtol=1e-4, atol=1e-4, msg=name)
    torch.testing.assert_close(result(model, given), whole)


def test_copies_and_one_graph():
    model, given = WAN.made()
    integration.use(model, WAN.mask)
    expected = result(model, given)
    torch.testing.assert_close(result(deepcopy(model), given), expected)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(**given, return_dict=False)[0], expected)


def test_layers_of_their_own():
    (model, given), mask = WAN.made(), WAN.mask
    names = [*integration.attentions(model)]
    assert names == ["blocks.0.attn1", "blocks.1.attn1"]
    whole = MODULE["dense"]
    by_number = {}
    for pattern in ({0: mask, 1: whole}, {"blocks.0.attn1": mask, "blocks.1.attn1": whole}):
        integration.use(model, pattern)
        by_number[len(by_number)] = result(model, given)
    integration.use(model, lambda number, name: whole if number else mask)
    torch.testing.assert_close(by_number[0], result(model, given), rtol=0, atol=0)
    torch.testing.assert_close(by_number[1], result(model, given), rtol=0, atol=0)
    with pytest.raises(maskdsl.AttnError, match="E613"):
        integration.use(model, {0: mask})


def test_mistakes():
    (model, given), mask = FLUX.made(), FLUX.mask
    with pytest.raises(maskdsl.AttnError, match="E611"):
        integration.use(model, "near")
    with pytest.raises(maskdsl.AttnError, match="E618"):
        integration.use(torch.nn.Linear(2, 2), mask)
    integration.use(model, WAN.mask)
    with pytest.raises(maskdsl.AttnError, match="E407"):
        result(model, given)
    integration.use(model, mask)
    own_mask = {"attention_mask": torch.ones(29, 29, dtype=torch.bool).tril()}
    with pytest.raises(maskdsl.AttnError, match="E614"):
        result(model, {**given, "joint_attention_kwargs": own_mask})
    for each in integration.attentions(model).values():
        each.processor.processor = lambda attn, hidden_states, *_: hidden_states
    with pytest.raises(maskdsl.AttnError, match="E619"):
        result(model, given)


@pytest.mark.parametrize("name", [*PADDED, *(pytest.param(each, marks=pytest.mark.long) for each in OTHERS)])
def test_padding_of_texts(name):
    """Keys that the model's mask hides from all are not there; text alone is left to the model. With all gradients."""
    model, given = {**PADDED, **OTHERS}[name].made()
    expected, wanted = result_and_gradients(model, given)
    integration.use(model, lambda number, name: None if "refiner" in name else MODULE["dense"])
    found, gradients = result_and_gradients(model, given)
    torch.testing.assert_close(found, expected)
    for name, grad in gradients.items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    integration.use(model, lambda number, name: None)
    torch.testing.assert_close(result(model, given), expected)


def test_vouching():
    """For a mask that the pattern says."""
    model, given = FLUX.made()
    causal = torch.ones(29, 29, dtype=torch.bool).tril()
    given["joint_attention_kwargs"] = {"attention_mask": causal}
    with Masked(causal):
        expected = result(model, given)
    integration.use(model, MODULE["causal_dense"], masks="pattern")
    torch.testing.assert_close(result(model, given), expected)
    with pytest.raises(maskdsl.AttnError, match="E628"):
        integration.use(model, MODULE["causal_dense"], masks="model")
