"""Whole models with patterns as their attention, each against the library's own eager attention, with its own masks."""

import pytest
import torch

transformers = pytest.importorskip("transformers")
from maskdsl.integrations import transformers as integration  # noqa: E402
from tests.integrations.whole_models import WHOLE  # noqa: E402

FEW = {"gpt_oss", "gpt_oss_sinks", "t5", "gemma3_images", "whisper"}
"""One of each kind: sinks and sliding caches, a bias, spans by an input, encoder and decoder. The others are long."""
STEPS = 9
"""Further than a window reaches."""


def some(names):
    return [pytest.param(each, marks=[] if each in FEW else [pytest.mark.long]) for each in names]


def made(name):
    """A model, and a function that switches it between its own attention and its patterns."""
    case = WHOLE[name]
    integration.register("whole/model", case.choice, masks=case.masks)
    model = case.made()
    return case, model


@pytest.mark.parametrize("name", some(WHOLE))
@torch.no_grad()
def test_results(name):
    """Without padding, and with padding on each side."""
    case, model = made(name)
    for side in ("none", "left", "right"):
        model.set_attn_implementation("eager")
        expected = case.results(model, side, by_pattern=False)
        model.set_attn_implementation("whole/model")
        torch.testing.assert_close(case.results(model, side, by_pattern=True), expected, rtol=1e-4, atol=1e-5, msg=side)


@pytest.mark.parametrize("name", some(WHOLE))
def test_gradients(name):
    """Of all weights, with padding on the left."""
    case, model = made(name)
    model.set_attn_implementation("eager")
    expected = case.gradients(model, "left", by_pattern=False)
    model.set_attn_implementation("whole/model")
    compare(case.gradients(model, "left", by_pattern=True), expected)


def compare(found, expected):
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        size = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(grad, expected[name], rtol=1e-3, atol=1e-5 * size, msg=name)


AFTER_EACH_OTHER = ("gpt2", "gpt_neox", "opt", "deepseek_v3", "clip", "dinov2", "llava", "llama")


@pytest.mark.long
def test_gradients_of_models_after_each_other():
    """Of unlike heads, lengths and head dimensions, in several orders: nothing that one leaves behind is another's."""
    models = {name: made(name) for name in AFTER_EACH_OTHER}
    expected = {}
    for name, (case, model) in models.items():
        model.set_attn_implementation("eager")
        expected[name] = case.gradients(model, "left", by_pattern=False)
    for step in (1, 3, 5, 7):  # each of them has no divisor in common with the number of models
        for number in range(len(models)):
            name = AFTER_EACH_OTHER[number * step % len(models)]
            case, model = models[name]
            integration.register("whole/model", case.choice, masks=case.masks)
            model.set_attn_implementation("whole/model")
            compare(case.gradients(model, "left", by_pattern=True), expected[name])


GENERATIONS = [(name, cache) for name, case in WHOLE.items() for cache in case.caches]


@pytest.mark.parametrize(
    ("name", "cache"),
    [
        pytest.param(*each, marks=[] if each[0] in FEW and each[1] == "static" else [pytest.mark.long])
        for each in GENERATIONS
    ],
)
def test_generation(name, cache):
    """Past the window of sliding layers, with padding on the left. Inputs have entries for what is generated."""
    case, model = made(name)
    options = {"max_new_tokens": STEPS, "do_sample": False, "cache_implementation": cache, "disable_compile": True}
    results = []
    for implementation in ("eager", "whole/model"):
        model.set_attn_implementation(implementation)
        call = case.call("left", by_pattern=implementation != "eager")
        call = {each: value for each, value in call.items() if not each.startswith("decoder_")}
        for each in case.mine & call.keys():
            fill = False if call[each].dtype == torch.bool else -1
            call[each] = torch.nn.functional.pad(call[each], (0, STEPS), value=fill)
        found = model.generate(**call, **options, output_logits=True, return_dict_in_generate=True)
        results.append((found.sequences, torch.stack(found.logits)))
    (ours, our_logits), (theirs, their_logits) = reversed(results)
    assert ours.tolist() == theirs.tolist()
    torch.testing.assert_close(our_logits, their_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_drafts_of_another_model():
    """Assisted decoding, of layers that all slide, further than their caches reach; draft and model have patterns."""
    _, model = made("mistral")
    transformers.set_seed(1)
    draft = type(model)(model.config).eval()
    tokens = torch.randint(6, 60, (1, 11), generator=torch.Generator().manual_seed(1))
    for implementation in ("eager", "whole/model"):
        model.set_attn_implementation(implementation)
        draft.set_attn_implementation(implementation)
        assisted = model.generate(tokens, max_new_tokens=12, do_sample=False, assistant_model=draft)
        plain = model.generate(tokens, max_new_tokens=12, do_sample=False)
        assert assisted.tolist() == plain.tolist()
