"""Inputs that have an entry for each slot of a batch, where tokens are numbered otherwise; by hand, and in a model."""

import pytest
import torch

import maskdsl
from maskdsl.integrations.positions import positions_of
from maskdsl.integrations.slot_inputs import inputs_of_tokens

transformers = pytest.importorskip("transformers")
from maskdsl.integrations import transformers as integration  # noqa: E402
from tests.integrations.tiny import tiny  # noqa: E402

TEXT = """
pattern documents(n) {
    space tokens[n]
    input document: int[batch, tokens]
    attend causal and same(document)
}
pattern one_for_all(n) { space tokens[n] input document: int[tokens] attend causal and same(document) }
pattern biased(n) {
    space tokens[n]
    input position_bias: float[batch, heads, tokens, tokens]
    input pairs: float[tokens, batch, tokens]
    attend causal
    score s + position_bias[batch, head, q, k] + pairs[q, batch, k]
}
"""
MODULE = maskdsl.parse(TEXT)
PRESENT = torch.tensor([[True] * 6, [False, False, True, True, True, True]])


def test_whole_calls() -> None:
    """Entries of what is not there yet are left out; what a longer mask has is filled."""
    document = torch.arange(9).expand(2, -1)
    following = MODULE["documents"].compile()
    fixed = MODULE["documents"].bind(n=8).compile()
    found = [inputs_of_tokens(each, {"document": document}, 6, None)["document"] for each in (following, fixed)]
    assert [each.tolist() for each in found] == [[[*range(6)]] * 2, [[*range(8)]] * 2]
    short = inputs_of_tokens(fixed, {"document": document[:, :6]}, 6, None)["document"]
    assert short.tolist() == [[0, 1, 2, 3, 4, 5, 0, 0]] * 2


def test_padding_moves_entries() -> None:
    positions = positions_of(2, 6, 6, 0, 0, PRESENT, "cpu")
    document = torch.arange(12).view(2, 6)
    given = inputs_of_tokens(MODULE["documents"].compile(), {"document": document}, 6, positions)["document"]
    assert given.shape == (2, 64)
    assert given[0, :6].tolist() == [0, 1, 2, 3, 4, 5] and given[1, :4].tolist() == [8, 9, 10, 11]


def test_tables_of_pairs() -> None:
    """That of the model has rows of the queries and columns of the keys that there are; others have all tokens."""
    positions = positions_of(2, 2, 4, 4, 2, PRESENT, "cpu")  # queries 4 and 5; slots 0 and 1 are dropped
    bias, pairs = torch.rand(1, 1, 2, 4), torch.rand(6, 2, 6)
    attention = MODULE["biased"].compile()
    given = inputs_of_tokens(attention, {"position_bias": bias, "pairs": pairs}, 4, positions)
    found = given["position_bias"]
    assert torch.equal(found[0, 0, 4:6, 2:6], bias[0, 0]) and torch.equal(found[1, 0, 2:4, :4], bias[0, 0])
    assert torch.equal(given["pairs"][:6, 0, 2:6][4:, :], pairs[4:, 0, 2:])
    assert torch.equal(given["pairs"][2:4, 1, :4], pairs[4:, 1, 2:])
    decoding = positions_of(2, 1, 4, 5, 2, PRESENT, "cpu")
    row = inputs_of_tokens(attention, {"position_bias": bias[:, :, :1], "pairs": pairs}, 4, decoding)["position_bias"]
    assert row.stride(2) == 0 and torch.equal(row[1, 0, 3, :4], bias[0, 0, 0])


def test_mistakes() -> None:
    positions = positions_of(2, 6, 6, 0, 0, PRESENT, "cpu")
    with pytest.raises(maskdsl.AttnError, match=r"E631[\s\S]*5 entries[\s\S]*up to 6"):
        short = {"document": torch.zeros(2, 5, dtype=torch.int64)}
        inputs_of_tokens(MODULE["documents"].compile(), short, 6, positions)
    one, attention = {"document": torch.zeros(6, dtype=torch.int64)}, MODULE["one_for_all"].compile()
    with pytest.raises(maskdsl.AttnError, match=r"E632[\s\S]*`batch`"):
        inputs_of_tokens(attention, one, 6, positions)
    alike = positions_of(2, 2, 6, 4, 0, None, "cpu")
    assert inputs_of_tokens(attention, one, 6, alike)["document"].shape == (64,)


@pytest.mark.long
def test_one_graph() -> None:
    """Documents of padded sequences, in one graph of torch.compile."""
    integration.register("documents", MODULE["documents"])
    transformers.set_seed(0)
    model = transformers.LlamaForCausalLM(tiny(transformers.LlamaConfig, num_hidden_layers=1)).eval()
    model.set_attn_implementation("documents")
    tokens, document = torch.arange(3, 31).view(2, 14), (torch.arange(14) // 8).expand(2, -1)
    mask = torch.ones(2, 14, dtype=torch.long)
    mask[1, :4] = 0
    given = {"attention_mask": mask, "document": document, "use_cache": False}
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    shown = mask.bool()
    torch.testing.assert_close(compiled(tokens, **given).logits[shown], model(tokens, **given).logits[shown])


def test_generation_with_documents() -> None:
    """Padded on the left, with entries for what is generated: the second document goes on, and sees nothing before."""
    config = tiny(transformers.LlamaConfig)
    transformers.set_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    tokens = torch.randint(3, 60, (1, 12), generator=torch.Generator().manual_seed(1))
    expected = model.generate(tokens[:, 7:], max_new_tokens=5, do_sample=False)[0, 5:]
    integration.register("documents", MODULE["documents"])
    model.set_attn_implementation("documents")
    padded = torch.nn.functional.pad(tokens, (3, 0)).expand(2, -1)
    mask = (torch.arange(15) >= 3).long().expand(2, -1)
    document = (torch.arange(20) >= 10).long().expand(2, -1)
    for beams in (1, 2):
        options = {"max_new_tokens": 5, "do_sample": False, "num_beams": beams}
        found = model.generate(padded, attention_mask=mask, document=document, **options)
        assert beams > 1 or found[:, 15:].tolist() == [expected.tolist()] * 2
    with pytest.raises(maskdsl.AttnError, match="E631"):
        model.generate(padded, attention_mask=mask, document=document[:, :16], max_new_tokens=5, do_sample=False)
    with pytest.raises(ValueError, match="documents"):
        model.generate(padded, attention_mask=mask, documents=document, max_new_tokens=5)
