"""No mask of a model is lost: kinds of attention are told apart, texts that follow each other stay apart, layers that
are left to a model have its own mask, and what a pattern does not say is refused or vouched for.
"""

import pytest
import torch

import maskdsl

transformers = pytest.importorskip("transformers")
from maskdsl.integrations import transformers as integration  # noqa: E402
from maskdsl.integrations.layers import Layer  # noqa: E402
from tests.integrations.tiny import tiny  # noqa: E402

MODULE = maskdsl.parse("""
pattern local(n, size = 6) { space tokens[n] attend causal and backward(size) }
pattern across(m, n) { space queries_[m] space keys_[n] queries queries_ keys keys_ attend all -> all }
pattern biased(n, sees_ahead = False) {
    space tokens[n]
    input position_bias: float[1, heads, tokens, tokens]
    attend causal if not sees_ahead else all -> all
    score s + position_bias[0, head, q, k]
}
pattern pictures(n) {
    space tokens[n]
    input picture: int[batch, tokens]
    attend causal
    attend same(picture) and q.picture >= 0
}
""")
CAUSAL, DENSE = MODULE["causal_dense"], MODULE["dense"]


def drawn(*shape):
    return torch.randint(3, 60, shape, generator=torch.Generator().manual_seed(1))


def made(kind, attention="sdpa", **others):
    config = tiny(kind.config_class, **others)
    config._attn_implementation = attention
    transformers.set_seed(0)
    return kind(config).eval()


def bart(attention):
    return made(transformers.BartForConditionalGeneration, attention, decoder_start_token_id=2)


def sources():
    """As many of the source as of the target, and padding in one source."""
    tokens, mask = drawn(2, 11), torch.ones(2, 11, dtype=torch.long)
    mask[1, 7:] = 0
    return {"input_ids": tokens, "attention_mask": mask, "decoder_input_ids": drawn(2, 11).flip(0)}


ACROSS = MODULE["across"].compile(heads=4, follow=("m", "n"))


def by_role(layer):
    assert isinstance(layer, Layer)
    return {"self": CAUSAL, "encoder": DENSE, "cross": ACROSS}[layer.role]


@pytest.mark.parametrize(
    "choice",
    [
        {"self": CAUSAL, "encoder": None},
        {"self": None, "encoder": DENSE},
        {"self": CAUSAL, "encoder": DENSE, "cross": ACROSS},
        by_role,
    ],
    ids=["decoder", "encoder", "all", "function"],
)
def test_encoder_and_decoder(choice):
    """What a role is not given is left to the model, with its own mask: its logits, and what it writes."""
    integration.register("by_role", choice)
    ours, theirs = bart("by_role"), bart("sdpa")
    torch.testing.assert_close(ours(**sources()).logits, theirs(**sources()).logits, rtol=1e-4, atol=1e-5)
    given = {each: sources()[each] for each in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 5, "do_sample": False, "num_beams": 2}
    assert ours.generate(**given, **options).tolist() == theirs.generate(**given, **options).tolist()


def test_one_pattern_for_encoder_and_decoder():
    """A causal pattern would be that of the encoder, too."""
    integration.register("one", CAUSAL)
    integration.register("two", lambda number, kind: CAUSAL)
    for name in ("one", "two"):
        with pytest.raises(maskdsl.AttnError, match="E627"):
            bart(name)
    model = bart("sdpa")
    with pytest.raises(maskdsl.AttnError, match="E627"):
        model.set_attn_implementation("one")
    assert model.config._attn_implementation == "sdpa"


def test_one_pattern_for_texts_and_images():
    """Both are encoders to the library; that of texts is told in each call that it is causal."""
    integration.register("one", DENSE)
    with pytest.raises(maskdsl.AttnError, match="E627"):
        made(transformers.CLIPModel, "one")


def test_layers_left_to_the_model():
    """Sliding ones, with padding and a cache, beside others that a pattern computes."""
    kind, other = transformers.Gemma3ForCausalLM, {"sliding_window": 6}
    other["layer_types"] = ["sliding_attention", "full_attention"]
    for choice in ({"sliding_attention": None, "full_attention": CAUSAL}, lambda number, _: CAUSAL if number else None):
        integration.register("half", choice)
        ours, theirs = (made(kind, each, **other) for each in ("half", "sdpa"))
        tokens, mask = drawn(2, 13), torch.ones(2, 13, dtype=torch.long)
        torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=1e-4, atol=1e-5)
        mask[1, :4] = 0
        options = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
        assert ours.generate(tokens, **options).tolist() == theirs.generate(tokens, **options).tolist()


def test_a_position_bias_that_the_pattern_declares():
    patterns = {"self": MODULE["biased"], "encoder": MODULE["biased"].compile(heads=4, follow="n", sees_ahead=True)}
    integration.register("biased", patterns)
    ours, theirs = (made(transformers.T5ForConditionalGeneration, each) for each in ("biased", "sdpa"))
    given = {**sources(), "attention_mask": None}
    found = [model(**given, use_cache=False).logits for model in (ours, theirs)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    for model, logits in zip((ours, theirs), found, strict=True):
        logits.square().sum().backward()
        assert model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.grad.abs().max() > 0
    for (name, ours_), theirs_ in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours_.grad, theirs_.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_sinks_of_one_score_a_head():
    integration.register("sinks_of_heads", {"sliding_attention": MODULE["local"], "full_attention": CAUSAL})
    models = [
        made(transformers.GptOssForCausalLM, each, sliding_window=6, dtype=torch.float32)
        for each in ("sinks_of_heads", "eager")
    ]
    mask = torch.ones(2, 13, dtype=torch.long)
    mask[1, :4] = 0
    for model in models:
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.sinks, generator=torch.Generator().manual_seed(3))
    found = [model(drawn(2, 13), attention_mask=mask).logits[mask.bool()] for model in models]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    for logits in found:
        logits.square().sum().backward()
    for (name, ours), theirs in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4, msg=name)


LENGTHS = (5, 9, 4)
PLACES = torch.cat([torch.arange(length) for length in LENGTHS])[None]


def mistral(attention, **others):
    return made(transformers.MistralForCausalLM, attention, sliding_window=6, **others)


def gradients(model, logits):
    model.zero_grad()
    logits.square().sum().backward()
    return {name: each.grad.clone() for name, each in model.named_parameters()}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_texts_that_follow_each_other(compiled):
    """As collators without padding give them, by `position_ids` alone."""
    integration.register("packed", MODULE["local"])
    model, theirs = (mistral(each, num_hidden_layers=2 - compiled) for each in ("packed", "sdpa"))
    tokens = drawn(1, sum(LENGTHS))
    expected = torch.cat([theirs(each).logits for each in tokens.split(LENGTHS, dim=1)], dim=1)
    called = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    found = called(tokens, position_ids=PLACES, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    wanted = gradients(theirs, expected)
    for name, grad in gradients(model, found).items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-3, atol=1e-5, msg=name)
    if compiled:  # the same graph, for one text
        whole = called(tokens, position_ids=torch.arange(sum(LENGTHS))[None], use_cache=False).logits
        expected = theirs(tokens).logits
        torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
        wanted = gradients(theirs, expected)
        for name, grad in gradients(model, whole).items():
            torch.testing.assert_close(grad, wanted[name], rtol=1e-3, atol=1e-5, msg=name)


def test_drafts_are_checked_in_one_call():
    """Prompt lookup, with a model whose layers all slide: further than its cache reaches."""
    integration.register("drafted", MODULE["local"])
    model = mistral("drafted")
    prompt = drawn(1, 4).repeat(1, 4)
    options = {"max_new_tokens": 9, "do_sample": False}
    plain = mistral("sdpa").generate(prompt, **options)
    assert model.generate(prompt, **options, prompt_lookup_num_tokens=3).tolist() == plain.tolist()


def test_vouching_for_a_mask():
    """Tokens of pictures attend both ways, which the model says in a mask, and the pattern by an input."""
    from transformers.masking_utils import create_causal_mask

    text = made(transformers.LlamaForCausalLM)
    picture = torch.tensor([[-1, -1, 0, 0, 0, -1, 1, 1, -1, -1]])
    found = {}

    def answer(name):
        text.set_attn_implementation(name)
        embeds = text.model.embed_tokens(drawn(1, 10))
        mask = create_causal_mask(text.config, embeds, None, None, block_sequence_ids=picture)
        return text(inputs_embeds=embeds, attention_mask=mask, picture=picture).logits

    integration.register("unvouched", MODULE["pictures"])
    integration.register("vouched", MODULE["pictures"], masks="pattern")
    found = {name: answer(name) for name in ("sdpa", "vouched")}
    torch.testing.assert_close(found["vouched"], found["sdpa"], rtol=1e-4, atol=1e-5)
    with pytest.raises(maskdsl.AttnError, match=r"E614[\s\S]*both ways[\s\S]*masks=.pattern"):
        answer("unvouched")
    with pytest.raises(maskdsl.AttnError, match="E628"):
        integration.register("unvouched", MODULE["pictures"], masks="ours")


def test_a_layer_left_without_a_mask_of_its_own():
    """One that its model does not call causal, though its mask is: refused, not one that attends as it likes."""
    integration.register("half_told", {"self": CAUSAL, "encoder": None})
    model = made(transformers.LlamaForCausalLM)
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    model.set_attn_implementation("half_told")
    with pytest.raises(maskdsl.AttnError, match="E614"):
        model(drawn(1, 9))


def test_a_mask_that_is_padding():
    """Of four axes, the same for all queries: keys that are not there, where a model does not say it in two."""
    integration.register("whole", DENSE)
    ours, theirs = (made(transformers.BertModel, each, is_decoder=False) for each in ("whole", "sdpa"))
    tokens, present = drawn(2, 9), torch.ones(2, 9, dtype=torch.bool)
    present[1, 6:] = False
    mask = present[:, None, None].expand(-1, 1, 9, -1)
    found, expected = (each(tokens, attention_mask=mask).last_hidden_state[present] for each in (ours, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(maskdsl.AttnError, match="E614"):
        ours(tokens, attention_mask=torch.ones(2, 1, 9, 9, dtype=torch.bool).tril())


def test_other_attention_fails_with_what_is_told_to_patterns():
    """A model told by hand, behind the back of the check: not one that attends everything."""
    integration.register("by_hand", CAUSAL)
    model = made(transformers.CodeGenForCausalLM, "eager")
    for mask in (None, torch.tensor([[0] * 3 + [1] * 6])):
        for length in (9, 4):
            model.config._attn_implementation = "by_hand"
            with pytest.raises(RuntimeError):
                model(drawn(1, length), attention_mask=None if mask is None else mask[:, -length:])


@pytest.mark.parametrize("name", ["GPTJForCausalLM", "BloomForCausalLM", "XGLMForCausalLM"])
def test_told_later(name):
    integration.register("later", CAUSAL)
    model = made(getattr(transformers, name), "eager")
    with pytest.raises(maskdsl.AttnError, match="E626"):
        model.set_attn_implementation("later")
    assert model.config._attn_implementation == "eager"
