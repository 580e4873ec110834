"""A space without tokens: lines about it say nothing, and the rest means what it means without them."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import maskdsl
from maskdsl.cli.app import app

GUIDED = """pattern guided(words = 0, h = 4, w = 4, tile = 2) {
    space text[words]
    space image[y = h, x = w]
    space coarse = mean(text, 2)
    tokens text ++ image
    input depth: float[text]
    coord text.row = -1 - i
    coord image.row = y
    attend text -> all
    attend all -> text where q.row > k.text
    attend image -> image where blocks((tile, tile))
    score s + (q.depth if text -> image else 0.5 * len(text))
    order text by text % 2
    order image by hilbert(y, x)
}"""
PLAIN = """pattern guided(h = 4, w = 4, tile = 2) {
    space image[y = h, x = w]
    attend blocks((tile, tile))
    order image by hilbert(y, x)
}"""


def without_pool(text: str) -> str:
    return text.replace("    space coarse = mean(text, 2)\n", "")


def test_lines_about_an_empty_space_say_nothing() -> None:
    empty, plain = (maskdsl.parse(each)["guided"].bind(heads=2) for each in (without_pool(GUIDED), PLAIN))
    assert (empty.ir.queries.spaces, empty.ir.relation) == (plain.ir.queries.spaces, plain.ir.relation)
    assert empty.stats().total.attended == plain.stats().total.attended
    q, k, v = torch.randn(3, 1, 2, 16, 8).unbind()
    for given in ({}, {"depth": torch.empty(0)}):
        torch.testing.assert_close(empty.compile()(q, k, v, **given), plain.compile()(q, k, v))
    assert maskdsl.parse(without_pool(GUIDED))["guided"].bind(words=3).query_length == 19


def test_lengths_that_follow_tensors_leave_out_inputs_of_empty_spaces() -> None:
    text = """pattern p(n, words = 0) { space text[words] space image[n] tokens text ++ image  input depth: float[text]
    attend all -> image  score s + (q.depth if text -> image else 0.0) }"""
    attention = maskdsl.parse(text)["p"].compile(follow="n")
    q, k, v = torch.randn(3, 1, 1, 7, 8).unbind()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    for given in ({}, {"depth": torch.empty(0)}):
        torch.testing.assert_close(attention(q, k, v, **given), expected)


def test_pools_of_an_empty_space_are_empty() -> None:
    text = """pattern p(words = 0) { space text[words] space image[9] space coarse = mean(text, 2)
    queries image keys image ++ coarse  attend all -> image  attend all -> coarse where k.coarse < 3 }"""
    assert maskdsl.parse(text)["p"].bind().key_length == 9
    assert maskdsl.parse(text)["p"].bind(words=5).key_length == 12


def test_a_pattern_whose_lines_all_say_nothing_gives_zeros() -> None:
    text = "pattern p(n = 0) { space words[n] space image[9] tokens words ++ image  attend image -> words }"
    out = maskdsl.parse(text)["p"].bind().compile()(*torch.randn(3, 1, 1, 9, 8))
    assert not out.any()


WHOLE = {
    "alone": ("space words[n] attend causal and window(5)", 0, 0),
    "all of several": (
        "space words[n] space image[y = n, x = 3] tokens words ++ image coord image.z = hilbert(y, x)"
        " attend words -> image attend image -> image where same(z) score s * 2.0 order image by z",
        *(0, 0),
    ),
    "keys": (
        "space words[n] space image[5] queries image keys words attend all -> all where k.words < len(words)",
        5,
        0,
    ),
    "queries": ("space words[n] space image[5] queries words keys image attend all -> all order auto", 0, 5),
    "pools": ("space words[n] space coarse = mean(words, 2) queries words keys coarse attend all -> all", 0, 0),
    "inputs": (
        "space words[n] input bias: float[heads, 2 * n - 1] attend causal score s + bias[head, q - k + n - 1]",
        0,
        0,
    ),
    "routes": (
        "space words[n] coord c = i // 4 route past = topk(2, dot(q, mean(k by c))) where k.c < q.c attend past",
        *(0, 0),
    ),
    "divisors": ("space words[n] attend q % len(words) == 0 weight 1.0 / float(n)", 0, 0),
    "not normalized": ("space words[n] attend causal score sigmoid(s) normalize none", 0, 0),
}


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", WHOLE)
def test_sequences_without_tokens_give_zeros(name: str, backend: str) -> None:
    body, queries, keys = WHOLE[name]
    mask = maskdsl.parse(f"pattern p(n = 0) {{ {body} }}")["p"].bind(heads=2)
    assert not mask.ir.cautions
    q, k = (torch.randn(3, 2, length, 8, requires_grad=True) for length in (queries, 0 if name == "pools" else keys))
    wants_lse = name != "not normalized"
    found = mask.compile(backend)(q, k, k, return_lse=wants_lse)
    out, lse = found if wants_lse else (found, None)
    assert out.shape == q.shape and not out.any()
    assert lse is None or (lse.shape == q.shape[:3] and (lse == -torch.inf).all())
    assert not any(grad.any() for grad in torch.autograd.grad(out.sum(), (q, k), allow_unused=True) if grad is not None)
    assert (mask.dense().shape, mask.stats().total.pairs) == ((queries, keys), 0)
    assert maskdsl.verify(mask.pattern, cases=2).passed


WORDS = "space words[0] space image[5]"
LINES = {
    "a let of lines about it": "tokens words ++ image let apart = abs(q.words - k.words) let near = apart < 3"
    " attend words -> words where near attend image -> image",
    "a let of a branch": "tokens words ++ image let apart = abs(q.words - k.words)"
    " branch one { let near = apart < 3 attend words -> words where near attend image -> image }",
    "pools of it by a coordinate": "coord words.pair = words // 2 space pairs = mean(words by pair, 3)"
    " queries image keys pairs ++ image attend image -> all",
    "pools of other tokens": "let step = 2 coord image.pair = image // step space pairs = mean(image by pair)"
    " queries image keys pairs ++ image attend all -> image",
}


@pytest.mark.parametrize("name", LINES)
def test_declarations_that_only_lines_about_it_read_are_left_out(name: str) -> None:
    q, k, v = torch.randn(3, 1, 1, 5, 8)
    out = maskdsl.parse(f"pattern p() {{ {WORDS} {LINES[name]} }}")["p"].bind().compile()(q, k, v)
    torch.testing.assert_close(out, torch.nn.functional.scaled_dot_product_attention(q, k, v))


NOTHING = {
    "a length that a let gives": ("let more = n + 5 space a[n] space b[more] queries b keys a", 5, 5),
    "pools of nothing": ("space a[n] space b[5] coord a.g = a // 4 space c = mean(a by g) queries b keys c", 5, 5),
    "pools for no keys": ("space a[n] space b[5] let f = 2 coord b.g = b // f space c = mean(b by g)"
                          " queries c keys a", 5, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_what_lengths_read_stays_where_nothing_attends(name: str) -> None:
    lines, given, queries = NOTHING[name]
    attention = maskdsl.parse(f"pattern p(n = 0) {{ {lines} attend all -> all }}")["p"].bind().compile()
    q, k = torch.randn(1, 1, given, 8), torch.randn(1, 1, 0, 8)
    assert torch.equal(attention(q, k, k), torch.zeros(1, 1, queries, 8))


def test_a_wrong_let_that_nothing_reads_is_an_error() -> None:
    text = f"pattern p() {{ {WORDS} tokens words ++ image let apart = q.sentence attend image -> image }}"
    with pytest.raises(maskdsl.AttnError, match="E207"):
        maskdsl.parse(text)["p"].bind()


def test_sinks_of_queries_without_keys() -> None:
    text = """pattern p(n = 0) { space words[n] space image[5] queries image keys words  input logit: float[heads]
    attend all -> all  sink logit[head] }"""
    logit = torch.tensor([0.5, -1.0], requires_grad=True)
    q, k = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 0, 8)
    out, lse = maskdsl.parse(text)["p"].bind(heads=2).compile()(q, k, k, logit=logit, return_lse=True)
    assert not out.any()
    torch.testing.assert_close(lse, logit[None, :, None].expand(1, 2, 5))


def test_branches_without_tokens() -> None:
    text = """pattern p(n = 0) { space words[n]  input gate: float[heads]
    branch near { attend causal  weight gate[head] }  branch far { attend all -> all  score s + float(q) } }"""
    mask = maskdsl.parse(text)["p"].bind(heads=2)
    q = torch.randn(1, 2, 0, 8)
    out, lse = mask.compile()(q, q, q, return_lse=True)
    assert (out.shape, lse.shape, mask.stats().total.computed) == (q.shape, (1, 2, 2, 0), 0)


COMMANDS = (["show"], ["show", "--json"], ["stats"], ["explain"], ["order"], ["check"], ["fmt", "--diff"])


@pytest.mark.parametrize("name", ["alone", "keys", "queries"])
def test_commands_show_that_there_is_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.attn").write_text(f"pattern p(n = 0) {{ {WHOLE[name][0]} }}")
    pictures = [["show", "--out", "p.svg"], ["show", "--out", "p.png", "--mask"], ["view", "--out", "p.html"]]
    for command, *options in (
        *COMMANDS,
        *pictures,
        *(["emit", "--stage", stage] for stage in ("ir", "tiles", "triton")),
    ):
        result = CliRunner().invoke(app, [command, "p.attn", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, options, result.output)
    if name == "alone":
        with pytest.raises(maskdsl.AttnError, match="E363"):
            maskdsl.load("p.attn")["p"].bind().field()


@pytest.mark.parametrize("words", [-1, -9])
def test_negative_lengths_are_errors(words: int) -> None:
    with pytest.raises(maskdsl.AttnError, match="length of an axis"):
        maskdsl.parse(without_pool(GUIDED))["guided"].bind(words=words)
