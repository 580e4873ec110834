"""Patterns over the pages of serving engines, without one: lives of pages, layers, and what cannot be served."""

import pickle
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl import AttnError, Heads
from maskdsl.integrations import Layer, LayerPatterns
from maskdsl.integrations import vllm as maskdsl_vllm
from maskdsl.integrations.serving.kept_routes import KeptRoutes
from maskdsl.integrations.serving.page_lives import PageLives
from maskdsl.integrations.serving.pages import EngineStep, KeyPages
from maskdsl.integrations.serving.served_patterns import (
    FULL,
    SLIDING,
    AskedOfLayer,
    Registered,
    ServedModel,
    ServedPatterns,
)

MODULE = maskdsl.parse("""
pattern window(n, size = 20) { space t[n] attend causal and backward(size) }
pattern kept(n, size = 20) { space t[n] attend causal and (backward(size) or k < 3) }
pattern strided(n) { space t[n] attend causal and (q - k) % 5 == 0 and q - k < 60 and k % 40 < 30 }
pattern heads(n) { space t[n] attend causal and q - k < 10 * (head + 1) }
pattern fixed() { space t[90] attend causal }
pattern limited(n) { space t[n] input reach: int[heads] attend causal and q - k < reach[head] }
pattern learned(n) { space t[n] input score_of: float[heads] attend causal sink score_of[head] }
pattern s_aux(n) { space t[n] input s_aux: float[heads] attend causal sink s_aux[head] }
pattern moba(n) {
    space t[n]
    coord chunk = i // 8
    route past = topk(1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
}
pattern pooled(n) { space t[n]  space means = mean(t, 4)  queries t  keys means ++ t  attend t -> t where k.t <= q.t }
pattern crossed(n) { space a[n]  space b[n]  queries a  keys b  attend a -> b }
""")
LENGTH = 128
OF_MODEL = {SLIDING: MODULE["window"], FULL: None}
MODEL = ServedModel(LENGTH, (SLIDING, FULL), Heads(4, 2), 32)


def served(choice: Any, inputs: dict[str, Any] | None = None, **parameters: Any) -> ServedPatterns:
    return ServedPatterns(Registered(LayerPatterns("here", choice, parameters), inputs or {}), MODEL)


@pytest.mark.parametrize("size", [1, 16, 48])
@pytest.mark.parametrize("name", ["window", "kept", "strided", "heads"])
def test_pages_are_freed_once_nobody_attends_them(name: str, size: int) -> None:
    mask = MODULE[name].bind(n=LENGTH, heads=4)
    attended = np.array([mask.dense(head=head) for head in range(4)]).any(axis=0)
    lives, pages = PageLives.of([mask], LENGTH, size, {}), -(-LENGTH // size)
    assert pickle.loads(pickle.dumps(lives)) == lives and hash(lives)
    for position in range(LENGTH + 1):
        free = set(lives.order[: lives.free_at(position)])
        for page in range(pages):
            rows = slice(page * size, (page + 1) * size)
            is_whole = min(page * size + size, LENGTH) <= position
            assert (page in free) == (is_whole and not attended[position:, rows].any())


@pytest.mark.parametrize("ahead", [1, 10, 40])
@pytest.mark.parametrize("name", ["window", "kept", "strided"])
def test_the_most_pages_that_a_sequence_holds(name: str, ahead: int) -> None:
    lives = PageLives.of([MODULE[name].bind(n=LENGTH)], LENGTH, 16, {})
    held = [-(-min(at + ahead, LENGTH) // 16) - lives.free_at(at) for at in range(LENGTH)]
    assert lives.most(ahead) == max(held)


def test_lives_of_layers_that_share_pages() -> None:
    window, kept = (PageLives.of([MODULE[name].bind(n=LENGTH)], LENGTH, 16, {}) for name in ("window", "kept"))
    assert kept.covers(window) and not window.covers(kept)
    both = served({0: MODULE["window"], 1: MODULE["kept"]})
    assert both.lives({0: SLIDING}, 16) == window
    assert both.lives({0: SLIDING, 1: FULL}, 16) == both.lives({1: FULL}, 16) == kept
    of_model = served({SLIDING: None, FULL: MODULE["window"]})
    assert of_model.lives({0: SLIDING}, 16) == served(MODULE["window"], size=32).lives({0: SLIDING}, 16)
    whole = PageLives.of([], LENGTH, 16, {})
    assert whole.free_at(16) == 1  # no layer reads anything
    assert served({SLIDING: MODULE["moba"], FULL: None}).lives({0: SLIDING}, 16) is None
    assert served(MODULE["window"].compile(size=20)).lives({0: SLIDING}, 16) is None
    reach = {"reach": np.array([3, 5, 8, 20])}
    assert served(MODULE["limited"]).lives({0: SLIDING}, 16) is None
    assert served(MODULE["limited"], reach).lives({0: SLIDING}, 16) == window


def refused(patterns: ServedPatterns, layer: Layer, **asked: Any) -> str:
    with pytest.raises(AttnError) as raised:
        patterns.layer(layer, Heads(4, 2), AskedOfLayer(**asked))
    return re.sub(r"[\s|^]+", " ", str(raised.value))


def test_what_cannot_be_served() -> None:
    layer = Layer(0, SLIDING)
    assert "E641" in refused(served(MODULE["window"]), Layer(0, FULL, "cross"))
    assert "tokens that follow" in refused(served(MODULE["window"]), Layer(0, FULL, "encoder"))
    assert "pools keys" in refused(served(MODULE["pooled"]), layer)
    assert "different tokens" in refused(served(MODULE["crossed"]), layer)
    assert "E642" in refused(served(MODULE["fixed"]), layer)
    assert "E642" in refused(served(MODULE["window"].bind(n=100)), layer)
    assert "`score s - slope[head]" in refused(served(MODULE["window"]), layer, has_alibi=True)


def computed(patterns: ServedPatterns, heads: Heads, **asked: Any) -> torch.Tensor:
    """Of 40 tokens, in pages of 16: of a sequence alone, and beside another one that has added the last token."""
    torch.manual_seed(0)
    q, cache = torch.randn(40, 4, 32), torch.randn(3, 2, 16, 64)
    q, cache = q[:, heads.first : heads.first + heads.count], cache[:, : heads.key_count]
    layer, table = patterns.layer(Layer(1, FULL), heads, AskedOfLayer(**asked)), torch.arange(3).int().expand(2, -1)
    pages, lengths, outs = KeyPages.of(cache, 32, None, None), torch.tensor([40, 40]).int(), list[torch.Tensor]()
    for ends in (torch.tensor([0, 40]).int(), torch.tensor([0, 40, 41]).int()):
        count, tokens = len(ends) - 1, int(ends[-1])
        outs.append(torch.empty(tokens + 1, heads.count, 32))
        step = EngineStep(tokens, ends, lengths[:count], table[:count], 40)
        layer.attend(torch.cat([q, q[-1:]]), pages, step, outs[-1])
    alone, beside = outs
    torch.testing.assert_close(beside[:41], torch.cat([alone[:40], alone[39:40]]))
    return alone[:40]


def test_sinks_of_the_model() -> None:
    sinks = torch.randn(4)
    added = computed(served(OF_MODEL), Heads(4, 2), sinks=sinks)
    for name in ("learned", "s_aux"):
        torch.testing.assert_close(computed(served(MODULE[name]), Heads(4, 2), sinks=sinks), added)
    given = computed(served(MODULE["learned"], {"score_of": sinks}), Heads(4, 2))
    torch.testing.assert_close(given, added)
    computed(served(MODULE["moba"]), Heads(4, 2), sinks=sinks)  # by groups of sequences, too
    here = computed(served(MODULE["learned"]), Heads(4, 2, 0, 2), sinks=sinks[:2])
    torch.testing.assert_close(here, added[:, :2])


def test_a_gpu_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sinks = torch.randn(4)
    on_host = computed(served(MODULE["heads"]), Heads(4, 2), sinks=sinks)
    monkeypatch.setattr(EngineStep, "is_on_host", False)
    torch.testing.assert_close(computed(served(MODULE["heads"]), Heads(4, 2), sinks=sinks), on_host)


def test_scale_soft_cap_and_heads_of_the_model() -> None:
    plain = computed(served(MODULE["heads"]), Heads(4, 2))
    capped = maskdsl.parse("""
    pattern p(n) { space t[n]  attend causal and q - k < 10 * (head + 1)  scale 0.3  score 2 * tanh(s / 2) }
    """)
    asked = computed(served(MODULE["heads"]), Heads(4, 2), scale=0.3, soft_cap=2.0)
    torch.testing.assert_close(asked, computed(served(capped["p"]), Heads(4, 2)))
    assert not torch.allclose(asked, plain)
    torch.testing.assert_close(computed(served(MODULE["heads"]), Heads(4, 2, 2, 2))[:, :0], plain[:, :0])


def test_routing_states_of_sequences() -> None:
    """Chunks and single tokens of three sequences, one after the other in full pages of another; a page is shared."""
    torch.manual_seed(0)
    layer = served(MODULE["moba"]).layer(Layer(1, FULL), Heads(4, 2), AskedOfLayer())
    q, k, v = torch.randn(3, 80, 4, 32), torch.randn(3, 80, 2, 32), torch.randn(3, 80, 2, 32)
    k[2, :16], v[2, :16] = k[0, :16], v[0, :16]
    table = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [1, 11, 12, 13, 14]], dtype=torch.int32)
    pages = KeyPages.of(torch.full((15, 2, 16, 64), torch.nan), 32, None, None)
    dense = MODULE["moba"].bind(n=80, heads=4).compile("reference")
    whole = [dense(*(x[n].transpose(0, 1)[None] for x in (q, k, v)))[0].transpose(0, 1) for n in range(3)]
    here = [0, 0, 0]
    schedule = [{0: 16}, {0: 30, 1: 10}, {1: 35, 2: 20}, {0: 1, 1: 1, 2: 1}, {0: 1, 2: 1}, {2: 40}, {0: 2, 2: 1}]
    schedule[2:2] = [{0: 1, 1: 1}]
    for counts in schedule:
        if 2 in counts and not here[2]:
            here[2] = 16  # from the cache
        rows = {n: slice(here[n], here[n] + count) for n, count in counts.items()}
        ends = torch.tensor([0, *counts.values()]).cumsum(0).int()
        for n, some in rows.items():
            at = torch.arange(some.start, some.stop)
            pages.write(k[n, some], v[n, some], table[n].long()[at // 16] * 16 + at % 16)
            here[n] = some.stop
        lengths = torch.tensor([here[n] for n in counts], dtype=torch.int32)
        step = EngineStep(int(ends[-1]), ends, lengths, table[[*counts]], max(counts.values()))
        out = torch.empty(step.tokens, 4, 32)
        layer.attend(torch.cat([q[n, some] for n, some in rows.items()]), pages, step, out)
        torch.testing.assert_close(out, torch.cat([whole[n][some] for n, some in rows.items()]))
        assert layer.routes is not None
        assert layer.routes._state.lengths.tolist() == lengths.tolist()


def test_routes_over_pages_of_8_bits() -> None:
    """A chunk beside a single token, then single tokens, as over the same keys and values in float32."""
    torch.manual_seed(0)
    small, scales = torch.randn(6, 2, 16, 64).to(torch.float8_e4m3fn), (torch.tensor(2.0), torch.tensor([0.5, 3.0]))
    both = torch.stack([scales[0].expand(2), scales[1]], dim=1).repeat_interleave(32, dim=1)[:, None]
    caches = (
        KeyPages.of(small.view(torch.uint8), 32, small.dtype, scales),
        KeyPages.of(small.float() * both, 32, None, None),
    )
    table, outs = torch.arange(6).int().view(2, 3), list[torch.Tensor]()
    q = torch.randn(8, 4, 32)
    for pages in caches:
        layer = served(MODULE["moba"]).layer(Layer(1, FULL), Heads(4, 2), AskedOfLayer())
        for counts, lengths in (([7, 1], [40, 33]), ([1, 1], [41, 34])):
            ends = torch.tensor([0, *counts]).cumsum(0).int()
            step = EngineStep(sum(counts), ends, torch.tensor(lengths).int(), table, max(counts))
            outs.append(torch.empty(step.tokens, 4, 32))
            layer.attend(q[: step.tokens], pages, step, outs[-1])
    torch.testing.assert_close(outs[:2], outs[2:])


def test_entries_of_a_state_are_of_one_sequence() -> None:
    """Two sequences that end in one full page, as after a hit of the cache, go on with an entry each."""
    attention = MODULE["moba"].bind(n=LENGTH, heads=4).compile()
    kept, table = KeptRoutes(attention), torch.tensor([[1, 2], [1, 3], [4, 5]], dtype=torch.int32)

    def known(rows: list[int], count: int, length: int) -> list[int]:
        """The keys that the state has of each sequence before a step."""
        ends, lengths = torch.arange(len(rows) + 1).int() * count, torch.full((len(rows),), length, dtype=torch.int32)
        state = kept.of(EngineStep(len(rows) * count, ends, lengths, table[rows], count), 16)
        before: list[int] = state.lengths.tolist()
        state.update(torch.zeros(len(rows), 2, 32, 8), lengths)
        return before

    assert known([0], 16, 16) == [0]
    assert known([0, 1], 1, 17) == [16, 0]
    assert known([0, 1], 1, 18) == [17, 17]
    assert known([1, 2, 0], 1, 19) == [18, 0, 18]
    assert known([2], 1, 20) == [19]
    assert known([0, 2], 1, 20) == [0, 0]  # one was away, drafts of the other were taken back


def test_what_the_variable_says(tmp_path: Any) -> None:
    file = tmp_path / "some.attn"
    near = "pattern near(n, size = 4) { space t[n] attend causal and backward(size) }"
    file.write_text(f"{near} pattern far(n) {{ space t[n] attend causal }}")
    pattern, values = maskdsl_vllm.choice_of(f"{file} : near(size=256)")
    assert pattern.name == "near" and values == {"size": 256}
    choice, values = maskdsl_vllm.choice_of(f"sliding_attention = {file}:near ; 3={file}:far; full_attention=model")
    assert {key: each and each.name for key, each in choice.items()} == {SLIDING: "near", 3: "far", FULL: None}
    assert values == {}
    wrong = [
        f"{file}:near; {file}:far",
        f"{file}:near(256)",
        f"{file}:",
        "near",
        ":near",
        f"0={file}:near(size=1);1={file}:near(size=2)",
    ]
    for text in wrong:
        with pytest.raises(AttnError, match="E643"):
            maskdsl_vllm.choice_of(text)
    for text, code in ((f"{file}:middle", "E201"), ("missing.attn:near", "E120")):
        with pytest.raises(AttnError, match=code):
            maskdsl_vllm.choice_of(text)


@pytest.fixture
def no_choice() -> Iterator[None]:
    yield
    maskdsl_vllm.REGISTERED.clear()


def test_nothing_is_registered_without_the_variable(no_choice: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(maskdsl_vllm.VARIABLE, raising=False)
    maskdsl_vllm.plugin()
    assert not maskdsl_vllm.REGISTERED
    with pytest.raises(AttnError, match="E611"):
        maskdsl_vllm.register("window")  # type: ignore[arg-type]
