"""Models of transformers with a pattern as their attention: the library's own results, its own caches and padding."""

import pytest
import torch

import maskdsl

transformers = pytest.importorskip("transformers")
from maskdsl.integrations import Layer, LayerPatterns  # noqa: E402
from maskdsl.integrations import transformers as integration  # noqa: E402

TEXT = """
pattern local(n, size = 16) { space tokens[n] attend causal and backward(size) }
pattern sinks(n, size = 16) { space tokens[n] attend causal and (backward(size) or k < 2) }
pattern capped(n, size = 0) {
    space tokens[n]
    attend causal and backward(size if size > 0 else n)
    score 20 * tanh(s / 20)
}
pattern image(h = 6, w = 6) { space cls[1] space image[y = h, x = w] tokens cls ++ image attend all -> all }
pattern near(h = 6, w = 6, kernel = (3, 3)) {
    space cls[1]
    space image[y = h, x = w]
    tokens cls ++ image
    attend cls -> all
    attend all -> cls
    attend image -> image where neighborhood(kernel)
}
"""
MODULE = maskdsl.parse(TEXT)
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "eos_token_id": None,
}
WINDOW = 6


def llama():
    config = transformers.LlamaConfig(**SMALL)
    return transformers.LlamaForCausalLM(config), MODULE["causal_dense"], {}


def mistral():
    config = transformers.MistralConfig(**SMALL, sliding_window=WINDOW)
    return transformers.MistralForCausalLM(config), MODULE["local"], {"size": WINDOW}


def gemma():
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    own = {"num_hidden_layers": 3, "layer_types": kinds, "sliding_window": WINDOW, "query_pre_attn_scalar": 24}
    config = transformers.Gemma3TextConfig(**{**SMALL, **own})
    patterns = {"sliding_attention": MODULE["local"], "full_attention": MODULE["causal_dense"]}
    return transformers.Gemma3ForCausalLM(config), patterns, {"size": WINDOW}


@pytest.fixture(params=[llama, mistral, gemma], ids=["llama", "mistral", "gemma3"])
def model(request):
    """One that computes a registered pattern that is the model's own; `theirs` switches."""
    torch.manual_seed(0)
    made, pattern, parameters = request.param()
    integration.register("own_pattern", pattern, **parameters)
    made.eval().set_attn_implementation("own_pattern")
    return made


def theirs(model):
    model.set_attn_implementation("sdpa")
    return model


def drawn(*shape):
    return torch.randint(1, 64, shape, generator=torch.Generator().manual_seed(1))


def test_prefill(model):
    tokens = drawn(2, 23)
    ours = model(tokens).logits
    torch.testing.assert_close(ours, theirs(model)(tokens).logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(model, side):
    tokens, lengths = drawn(3, 21), torch.tensor([21, 13, 5])
    index = torch.arange(21)
    mask = index < lengths[:, None] if side == "right" else index >= 21 - lengths[:, None]
    ours = model(tokens, attention_mask=mask.long()).logits
    expected = theirs(model)(tokens, attention_mask=mask.long()).logits
    torch.testing.assert_close(ours[mask], expected[mask])


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generation(model, cache):
    """Further than the window reaches, so that caches of sliding layers drop their first tokens."""
    tokens, mask = drawn(2, 7), torch.ones(2, 7, dtype=torch.long)
    mask[1, :3] = 0
    options = {"attention_mask": mask, "max_new_tokens": 7, "do_sample": False, "cache_implementation": cache}
    options |= {"output_logits": True, "return_dict_in_generate": True, "disable_compile": True}
    ours = model.generate(tokens, **options)
    expected = theirs(model).generate(tokens, **options)
    assert ours.sequences.tolist() == expected.sequences.tolist()
    torch.testing.assert_close(torch.stack(ours.logits), torch.stack(expected.logits))


def test_a_prompt_in_two_parts(model):
    tokens = drawn(2, 23)
    expected = model(tokens).logits
    first = model(tokens[:, :9], use_cache=True)
    rest = model(tokens[:, 9:], past_key_values=first.past_key_values)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], dim=1), expected)


@pytest.mark.parametrize("padded", [False, True])
def test_training(model, padded):
    tokens = drawn(2, 19)
    mask = torch.ones_like(tokens)
    mask[1, 11:] = 1 - padded
    labels = tokens.masked_fill(mask == 0, -100)
    found = []
    for each in (model.train(), theirs(model)):
        each.zero_grad()
        each(tokens, attention_mask=mask, labels=labels).loss.backward()
        found.append({name: parameter.grad.clone() for name, parameter in each.named_parameters()})
    assert max(float(grad.abs().max()) for grad in found[0].values()) > 1e-3
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][name], rtol=1e-4, atol=1e-6, msg=name)


def vit(attention):
    config = transformers.ViTConfig(
        image_size=24,
        patch_size=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return transformers.ViTModel(config).eval()


def test_vit():
    integration.register("whole_image", MODULE["image"].bind())
    images = torch.randn(2, 3, 24, 24)
    ours, expected = (vit(name)(images).last_hidden_state for name in ("whole_image", "sdpa"))
    torch.testing.assert_close(ours, expected)


def test_vit_with_neighbourhoods():
    """Against the model's own attention with the pattern as a mask of pairs."""
    mask = MODULE["near"].bind()
    integration.register("near", mask)
    images, pairs = torch.randn(2, 3, 24, 24), torch.tensor(mask.dense())
    expected = vit("sdpa")(images, attention_mask=pairs.expand(2, 1, -1, -1)).last_hidden_state
    torch.testing.assert_close(vit("near")(images).last_hidden_state, expected)


def test_soft_caps():
    """Of Gemma 2, in every other layer with a window: that of the pattern, or else that of the model."""
    own = {"sliding_window": WINDOW, "attn_logit_softcapping": 20.0, "query_pre_attn_scalar": 2}
    config = transformers.Gemma2Config(**SMALL, **own)
    model = transformers.Gemma2ForCausalLM(config).eval()
    capped = MODULE["capped"]
    windows = {"sliding_attention": capped.compile(heads=4, size=WINDOW), "full_attention": capped}
    integration.register("capped", windows)
    model.set_attn_implementation("capped")
    ours = model(drawn(2, 23)).logits
    model.set_attn_implementation("eager")
    expected = model(drawn(2, 23)).logits
    torch.testing.assert_close(ours, expected)
    windows = {"sliding_attention": MODULE["local"], "full_attention": MODULE["causal_dense"].bind(n=32, heads=4)}
    integration.register("uncapped", windows, size=WINDOW)
    model.set_attn_implementation("uncapped")
    torch.testing.assert_close(model(drawn(2, 23)).logits, expected)
    integration.register("uncapped", MODULE["causal_dense"].compile(heads=4))
    with pytest.raises(maskdsl.AttnError, match=r"E615[\s\S]*score 20\.0 \* tanh\(s / 20\.0\)"):
        model(drawn(1, 9))


@pytest.mark.long
def test_soft_caps_in_one_graph():
    """With a mapping from types of layers, of which the model has one."""
    own = {"sliding_window": WINDOW, "attn_logit_softcapping": 20.0, "layer_types": ["sliding_attention"]}
    model = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**{**SMALL, "num_hidden_layers": 1, **own})).eval()
    windows = {"sliding_attention": MODULE["local"], "full_attention": MODULE["causal_dense"]}
    integration.register("capped", windows, size=WINDOW)
    model.set_attn_implementation("capped")
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(drawn(2, 23), use_cache=False).logits, model(drawn(2, 23)).logits)


def test_a_mask_for_the_longest_sequence():
    """Bound once, for prompts and caches of any length; layers chosen by a function of their number."""
    local, whole = (MODULE[name].bind(n=64, heads=4, **own) for name, own in (("local", {"size": 5}), ("sinks", {})))
    integration.register("longest", lambda layer, kind: whole if layer else local)
    torch.manual_seed(0)
    model = llama()[0].eval()
    model.set_attn_implementation("longest")
    tokens = drawn(2, 23)
    expected = model(tokens).logits
    first = model(tokens[:, :20], use_cache=True)
    rest = model(tokens[:, 20:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(torch.cat([first.logits, rest], dim=1), expected)
    with pytest.raises(maskdsl.AttnError, match="E407"):
        model(drawn(1, 70))


@pytest.mark.parametrize("name", ["sinks", "moba"])
def test_tokens_are_numbered_without_padding(name):
    """Patterns of absolute places, and of blocks that queries choose: alone, padded and from a cache the same."""
    pattern, values = MODULE["sinks"], {"size": 5}
    if name == "moba":
        pattern, values = maskdsl.load("examples/routing/moba.attn")["moba"], {"block": 4, "top": 2}
    integration.register("absolute", pattern, **values)
    torch.manual_seed(0)
    model = llama()[0].eval()
    model.set_attn_implementation("absolute")
    tokens = drawn(1, 21)
    expected = model(tokens).logits
    padded = torch.nn.functional.pad(tokens, (6, 0)).expand(2, -1)
    mask = (torch.arange(27) >= 6).long().expand(2, -1)
    torch.testing.assert_close(model(padded, attention_mask=mask).logits[1:, 6:], expected)
    first = model(padded[:, :20], attention_mask=mask[:, :20], use_cache=True)
    rest = model(padded[:, 20:], attention_mask=mask, past_key_values=first.past_key_values).logits
    torch.testing.assert_close(rest[:1], expected[:, 14:])


def test_inputs_are_given_to_the_model():
    text = "pattern p(n) { space t[n] input document: int[batch, t] attend causal and same(document) }"
    integration.register("documents", maskdsl.parse(text)["p"])
    torch.manual_seed(0)
    model = llama()[0].eval()
    tokens, document = drawn(1, 20), (torch.arange(20) // 12)[None]
    expected = torch.cat([theirs(model)(part).logits for part in (tokens[:, :12], tokens[:, 12:])], dim=1)
    model.set_attn_implementation("documents")
    torch.testing.assert_close(model(tokens, document=document).logits, expected)
    with pytest.raises(maskdsl.AttnError, match="E410"):
        model(tokens)


KEY_HEADS = """
pattern own(n) { space t[n] input slope: float[key_heads] attend causal score s - slope[key_head] * (q - k) }
pattern by_query_head(n) { space t[n] input slope: float[2] attend causal score s - slope[head // 2] * (q - k) }
"""


@pytest.mark.parametrize("compiled", [False, True])
def test_patterns_read_the_key_heads_of_the_model(compiled):
    """In decoding as in prefill, and in graphs, which cannot bind a pattern."""
    torch.manual_seed(0)
    made, tokens, slope = llama()[0].eval(), drawn(2, 9), torch.tensor([0.5, 0.1])
    found = {}
    for pattern in maskdsl.parse(KEY_HEADS).values():
        integration.register(pattern.name, pattern)
        made.set_attn_implementation(pattern.name)
        model = torch.compile(made, backend="eager", fullgraph=True) if compiled else made
        first = model(tokens[:, :6], slope=slope)
        rest = made(tokens[:, 6:], past_key_values=first.past_key_values, slope=slope)
        found[pattern.name] = torch.cat([first.logits, rest.logits], dim=1)
    torch.testing.assert_close(found["own"], found["by_query_head"])


SCALED = """
pattern of_the_model(n) { space t[n] attend causal }
pattern own(n) { space t[n] attend causal scale 1.0 }
pattern of_branches(n) {
    space t[n]
    branch one { attend causal scale 1.0 weight 0.5 }
    branch two { attend causal scale 1.0 weight 0.5 }
}
pattern of_one_branch(n) { space t[n] branch one { attend causal scale 1.0 } branch two { attend causal } }
"""


@pytest.mark.parametrize("bound", [False, True])
def test_a_scale_of_the_pattern_replaces_that_of_the_model(bound):
    """Gemma's scale is 24 ** -0.5 here, that of T5 is 1, as its rows of the gallery say."""
    tokens, module = drawn(2, 20), maskdsl.parse(SCALED)
    expected = {}
    for scalar in (24, 1):
        torch.manual_seed(0)
        config = transformers.Gemma3TextConfig(**SMALL, query_pre_attn_scalar=scalar, sliding_window=64)
        expected[scalar] = transformers.Gemma3ForCausalLM(config).eval()(tokens).logits
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(**SMALL, query_pre_attn_scalar=24, sliding_window=64)
    model = transformers.Gemma3ForCausalLM(config).eval()
    for name, scalar in (("of_the_model", 24), ("own", 1), ("of_branches", 1)):
        pattern = module[name].bind(n=20, heads=4) if bound else module[name]
        integration.register(name, pattern)
        model.set_attn_implementation(name)
        torch.testing.assert_close(model(tokens).logits, expected[scalar])
    integration.register("of_one_branch", module["of_one_branch"])
    model.set_attn_implementation("of_one_branch")
    with pytest.raises(maskdsl.AttnError, match=r"E615.*scaling"):
        model(tokens)


PRODUCTS = """
pattern products(n) {
    space t[n]
    input table: float[heads, 8, dim]
    attend causal
    score s + dot(q, table[head, clamp(q - k, 0, 7)])
}
pattern routed(n, top = 2) {
    space t[n]
    coord chunk = i // 4
    route picked = topp(0.5, dot(q, mean(k by chunk))) where k.chunk <= q.chunk
    attend causal and picked
}
"""


@pytest.mark.parametrize("name", ["products", "routed"])
def test_a_scale_of_the_model_is_that_of_queries_and_keys_alone(name):
    """A product with a table, and scores of routes, have none: as if the pattern had the line `scale`."""
    tokens, pattern = drawn(2, 20), maskdsl.parse(PRODUCTS)[name]
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(**SMALL, query_pre_attn_scalar=24, sliding_window=64)
    model = transformers.Gemma3ForCausalLM(config).eval()
    inputs = {"table": torch.randn(4, 8, config.head_dim)} if name == "products" else {}
    logits = []
    for each in (pattern, pattern.scaled(24**-0.5), pattern.bind(n=20, heads=4)):
        integration.register(name, each)
        model.set_attn_implementation(name)
        logits.append(model(tokens, **inputs).logits)
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(logits[0], logits[2])
    integration.register(name, pattern.bind(n=20, heads=4).compile())
    model.set_attn_implementation(name)
    with pytest.raises(maskdsl.AttnError, match=r"E615[\s\S]*scale 0.204124"):
        model(tokens, **inputs)


def test_other_scales_are_compiled_only_where_products_need_them():
    for name, count in (("of_the_model", 1), ("products", 3)):
        module = maskdsl.parse(SCALED if name == "of_the_model" else PRODUCTS)
        patterns = LayerPatterns(name, module[name], {})
        found = {patterns.attention(Layer(0, None), maskdsl.Heads(4, 4), scale=each) for each in (None, 0.5, 0.25, 0.5)}
        assert len(found) == count


def test_what_a_cache_has_dropped():
    """The window of the model is what its cache keeps: first tokens that all attend are not among them."""
    torch.manual_seed(0)
    model = mistral()[0].eval()
    integration.register("sinks", MODULE["sinks"], size=WINDOW)
    model.set_attn_implementation("sinks")
    model(drawn(1, 30))
    with pytest.raises(maskdsl.AttnError, match="E616"):
        model.generate(drawn(1, 5), max_new_tokens=5, do_sample=False)
    integration.register("sinks", maskdsl.load("examples/routing/moba.attn")["moba"], block=4, top=2)
    with pytest.raises(maskdsl.AttnError, match="E616"):
        model.generate(drawn(1, 5), max_new_tokens=5, do_sample=False)


def test_what_models_ask_for_besides():
    model = llama()[0]
    integration.register("plain", MODULE["causal_dense"])
    model.set_attn_implementation("plain")
    tokens = drawn(1, 9)
    with pytest.raises(maskdsl.AttnError, match=r"E614[\s\S]*mask tensor"):
        model(tokens, attention_mask=torch.ones(1, 1, 9, 9, dtype=torch.bool))
    model.model.layers[0].self_attn.attention_dropout = 0.1
    with pytest.raises(maskdsl.AttnError, match=r"E615[\s\S]*dropout"):
        model.train()(tokens)


@pytest.mark.parametrize(
    ("name", "pattern", "values", "code"),
    [
        ("sdpa", MODULE["local"], {}, "E612"),
        ("eager", MODULE["local"], {}, "E612"),
        ("some|name", MODULE["local"], {}, "E612"),
        ("flash_local", MODULE["local"], {}, "E612"),
        ("new", "local", {}, "E611"),
        ("new", {"full_attention": 3}, {}, "E611"),
        ("new", {}, {}, "E611"),
        ("new", MODULE["local"], {"sise": 3}, "has no parameter"),
        ("new", {0: MODULE["local"]}, {"sise": 3}, "has no parameter"),
        ("new", MODULE["local"].bind(n=9), {"size": 3}, "E617"),
    ],
)
def test_wrong_registrations(name, pattern, values, code):
    with pytest.raises(maskdsl.AttnError, match=code):
        integration.register(name, pattern, **values)


def test_no_pattern_for_a_layer():
    integration.register("local_only", {"sliding_attention": MODULE["local"]})
    model = gemma()[0]
    model.set_attn_implementation("local_only")
    with pytest.raises(maskdsl.AttnError, match="E613"):
        model(drawn(1, 9))


def test_branches_whose_sum_is_the_models_own():
    """Whole, padded on the left, and with a cache."""
    torch.manual_seed(0)
    made, _, _ = llama()
    made.eval()
    text = """
    pattern halves(n) {
        space tokens[n]
        branch most { attend causal  weight 0.75 }
        branch rest { attend causal  score s + 0.5  weight 0.25 }
    }
    """
    integration.register("own_pattern", maskdsl.parse(text)["halves"])
    ids = torch.randint(1, 64, (2, 9))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    results = []
    for name in ("own_pattern", "sdpa"):
        made.set_attn_implementation(name)
        with torch.no_grad():
            whole, padded = made(ids).logits, made(ids, attention_mask=mask).logits[0, 4:]
        results.append((whole, padded, made.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    attention = integration._attention_forward
    layer = made.model.layers[0].self_attn
    q, k = torch.randn(2, 4, 9, 8), torch.randn(2, 2, 9, 8)
    with pytest.raises(maskdsl.AttnError, match="E615"):
        attention(integration.REGISTERED["own_pattern"], layer, q, k, k, None, s_aux=torch.zeros(4))
