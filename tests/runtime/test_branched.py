"""Patterns with branches: sums of softmaxes, written out in float64, in every kind of call, with all gradients."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.runtime.kernels.route_finder import RouteFinder
from maskdsl.runtime.packed import packed_attention

MODULE = maskdsl.parse(
    """
    pattern mixed(n = 40, size = 3) {
        space tokens[n]
        input gate: float[heads]
        input bias: float[9]
        require k <= q + 2
        score s + bias[clamp(q - k, -4, 4) + 4]

        branch shifted for o in 0 .. size {
            attend k == q + o - 1
            attend 2 * k == q
        }

        branch near {
            attend window(5) and k > 4
            score 2.0 * s
            weight sigmoid(gate[head])
        }

        branch far {
            attend causal
            weight -gate[head] * float(q % 3)
        }
    }

    pattern gated(n = 40, gates = 3) {
        space tokens[n]
        input gate: float[3, heads]
        branch part for o in 0 .. gates {
            attend causal
            weight gate[o, head]
        }
        branch near { attend window(5) }
        branch whole { attend causal }
    }

    pattern routed(n = 40) {
        space tokens[n]
        coord chunk = i // 8
        route best = topk(1, dot(q, mean(k by chunk))) where k.chunk < q.chunk

        branch near { attend causal and same(chunk) }

        branch picked for top in 1 .. 3 {
            route more = topk(top, dot(q, max(k by chunk))) where k.chunk < q.chunk
            attend causal and more
        }

        branch shared { attend best }
    }

    pattern plain(n = 40) {
        space tokens[n]
        coord chunk = i // 8
        route best = topk(1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
        attend best
    }
    """
)
BACKENDS = ["reference", "tiled"]


def softmaxes(terms, v):
    """The sum of weighted softmaxes, and their log-sum-exps: each term is scores, which pairs attend, and weights."""
    out, lses = 0.0, []
    for scores, attends, weight in terms:
        scores = scores.masked_fill(~attends, -torch.inf)
        lse = scores.logsumexp(-1)
        p = torch.where(attends, (scores - lse[..., None].nan_to_num(neginf=0.0)).exp(), 0.0)
        out = out + (p * weight) @ v
        lses.append(lse)
    return out, torch.stack(lses, dim=1)


def mixed(q, k, v, gate, bias, size=3):
    n = q.shape[2]
    i, j = torch.arange(n)[:, None], torch.arange(n)[None]
    s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias[(i - j).clamp(-4, 4) + 4]
    kept, heads = j <= i + 2, gate[:, None, None]
    terms = [(s, kept & ((j == i + o - 1) | (2 * j == i)), 1.0) for o in range(size)]
    terms.append((2 * s, kept & ((i - j).abs() <= 2) & (j > 4), heads.sigmoid()))
    terms.append((s, kept & (j <= i), -heads * (i % 3)))
    return softmaxes(terms, v)


def tensors(n=40, heads=2, dim=8, dtype=torch.float64, batch=2):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(batch, heads, n, dim, generator=generator, dtype=dtype) for _ in range(3)]
    return [each.requires_grad_() for each in made]


def inputs():
    generator = torch.Generator().manual_seed(1)
    shapes = {"gate": (2,), "bias": (9,)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_sum_of_its_softmaxes(backend):
    leaves, given = tensors(), inputs()
    for attention in (
        MODULE["mixed"].bind(heads=2).compile(backend),
        MODULE["mixed"].compile(backend, heads=2),
        copy.deepcopy(pickle.loads(pickle.dumps(MODULE["mixed"].compile(backend, heads=2)))),
    ):
        results = attention(*leaves, return_lse=True, **given)
        expected = mixed(*leaves, **given)
        assert results[1].shape == (2, 5, 2, 40) and not attention.state_dict()
        assert attention.branches == ("shifted[0]", "shifted[1]", "shifted[2]", "near", "far")
        finite = expected[1].isfinite()
        assert torch.equal(results[1].isfinite(), finite) and not bool(finite.all())
        for found, wanted in zip(results, expected, strict=True):
            torch.testing.assert_close(found, wanted)
        every = [*leaves, *given.values()]
        found, wanted = (
            torch.autograd.grad(out.sin().sum() + lse[finite].cos().sum(), every) for out, lse in (results, expected)
        )
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_branches_are_masks_of_their_own():
    mask = MODULE["mixed"].bind(heads=2)
    leaves, given = tensors(), inputs()
    assert [each.branch for each in mask.branches] == ["shifted[0]", "shifted[1]", "shifted[2]", "near", "far"]
    assert not mask.branches[0].branches and "branch 'near'" in repr(mask.branches[3])
    named = [{each.name: given[each.name] for each in branch.inputs} for branch in mask.branches]
    parts = [branch.compile()(*leaves, **one) for branch, one in zip(mask.branches, named, strict=True)]
    torch.testing.assert_close(sum(parts), mask.compile()(*leaves, **given))
    assert np.array_equal(np.any([each.dense() for each in mask.branches], axis=0), mask.dense())
    turned = mask.branches[3].with_order("by shuffle(i, 7)")
    assert turned.branch == "near" and turned.ir.queries.order


def test_attentions_that_differ_in_weights_run_once():
    bound, following = MODULE["gated"].bind(heads=2).compile(), MODULE["gated"].compile(heads=2)
    leaves, gate = tensors(), torch.randn(3, 2, dtype=torch.float64)
    (out, lse), others = (each(*leaves, gate=gate, return_lse=True) for each in (bound, following))
    assert len(bound._summands) == len(following._summands) == 2
    assert torch.equal(out, others[0]) and torch.equal(lse, others[1])
    i, j = torch.arange(40)[:, None], torch.arange(40)[None]
    s = leaves[0] @ leaves[1].transpose(-1, -2) / 8**0.5
    weights = [*gate[:, :, None, None], 1.0]
    terms = [(s, j <= i, weight) for weight in weights]
    terms.insert(3, (s, (i - j).abs() <= 2, 1.0))
    for found, wanted in zip((out, lse), softmaxes(terms, leaves[2]), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["mixed", "routed"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_partial_calls_are_rows_of_the_whole(name, backend):
    attention = MODULE[name].bind(heads=2).compile(backend)
    given = inputs() if name == "mixed" else {}
    q, k, v = tensors()
    whole, lse = attention(q, k, v, return_lse=True, **given)
    state = attention.routing_state(2)  # a pattern without routes has no use for it
    for start, stop in ((0, 17), (17, 18), (18, 40)):
        given_keys = {"key_lengths": torch.tensor([stop, stop]), "query_start": start}
        rows = q[:, :, start:stop]
        for each in (None, state):
            if name == "mixed":  # it attends two keys that come later
                given_keys["key_lengths"] = None
            found = attention(rows, k, v, return_lse=True, routing_state=each, **given_keys, **given)
            torch.testing.assert_close(found[0], whole[:, :, start:stop])
            torch.testing.assert_close(found[1], lse[..., start:stop])
    if name == "routed":
        assert state.lengths.tolist() == [40, 40]
        state.truncate(9)
        again = pickle.loads(pickle.dumps(state.clone()))
        found = attention(q[:, :, 17:18], k, v, query_start=17, key_lengths=[18, 18], routing_state=again)
        torch.testing.assert_close(found, whole[:, :, 17:18])
        plain = MODULE["plain"].bind(heads=2).compile()
        with pytest.raises(AttnError, match="E455"):
            plain(q[:, :, :1], k, v, query_start=0, routing_state=state)
        with pytest.raises(AttnError, match="E455"):
            attention(q[:, :, :1], k, v, query_start=0, routing_state=plain.routing_state(2))


def test_routes_of_several_branches_are_found_once(monkeypatch):
    text = """
    pattern p(n = 40) {
        space tokens[n]
        coord chunk = i // 8
        route best = topk(1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
        branch one { attend causal and (best or same(chunk)) }
        branch two { attend best  score 2.0 * s }
        branch near { attend causal and same(chunk) }
    }
    """
    searched = []
    find = RouteFinder.find
    monkeypatch.setattr(RouteFinder, "find", lambda self, *given: searched.append(self) or find(self, *given))
    q, k, v = tensors()
    pattern = maskdsl.parse(text)["p"]
    for attention in (pattern.bind(heads=2).compile(), pattern.compile(heads=2)):
        searched.clear()
        out = attention(q, k, v)
        assert len(searched) == 1
        branches = pattern.bind(heads=2).branches
        torch.testing.assert_close(out, sum(each.compile()(q, k, v) for each in branches))


def test_packed_sequences_and_texts():
    attention, given = MODULE["mixed"].compile(heads=2), inputs()
    q, k, v = tensors(batch=1)
    flat = [each[0].transpose(0, 1) for each in (q, k, v)]
    out, lse = attention.varlen(*flat, torch.tensor([0, 13, 13, 40]), return_lse=True, **given)
    starts = torch.zeros(1, 40, dtype=torch.bool)
    starts[0, [0, 13]] = True
    texts = packed_attention(attention, q, k, v, starts, **given)
    for begin, end in ((0, 13), (13, 40)):
        alone, its_lse = attention(*(each[:, :, begin:end] for each in (q, k, v)), return_lse=True, **given)
        torch.testing.assert_close(out[begin:end].transpose(0, 1), alone[0])
        torch.testing.assert_close(lse[..., begin:end], its_lse[0])
        torch.testing.assert_close(texts[0][:, :, begin:end], alone)
        torch.testing.assert_close(texts[1][..., begin:end], its_lse)


def test_tokens_may_come_first():
    given = inputs()
    q, k, v = tensors()
    out, lse = MODULE["mixed"].compile(heads=2)(q, k, v, return_lse=True, **given)
    first = MODULE["mixed"].compile(heads=2, layout="bnhd")
    turned, turned_lse = first(*(each.transpose(1, 2) for each in (q, k, v)), return_lse=True, **given)
    torch.testing.assert_close(turned, out.transpose(1, 2))
    torch.testing.assert_close(turned_lse, lse.transpose(2, 3))


def test_orders_and_laid_out_tensors():
    given = inputs()
    leaves = tensors()
    expected = mixed(*leaves, **given)[0]
    for order in ("by shuffle(i, 3)", "auto"):
        torch.testing.assert_close(MODULE["mixed"].bind(heads=2, order=order).compile()(*leaves, **given), expected)
    attention = MODULE["mixed"].bind(heads=2, order="by shuffle(i, 3)").compile()
    turn = Coordinates(attention.mask, attention.mask.queries, {}).permutation()
    laid_out = attention(*(each[:, :, turn] for each in leaves), layout="ordered", **given)
    torch.testing.assert_close(laid_out, expected[:, :, turn])


@pytest.mark.parametrize("name", ["mixed", "routed"])
def test_torch_transforms(name):
    attention, given = MODULE[name].bind(heads=2).compile(), inputs() if name == "mixed" else {}
    q, k, v = tensors(dtype=torch.float32)
    given = {name: each.detach().float() for name, each in given.items()}
    expected = attention(q, k, v, **given)
    torch.testing.assert_close(checkpoint(lambda q: attention(q, k, v, **given), q, use_reentrant=False), expected)
    mapped = torch.vmap(lambda q: attention(q, k, v, **given))(torch.stack([q, k]))
    torch.testing.assert_close(mapped[0], expected)
    exported = torch.export.export(attention, (q.detach(), k.detach(), v.detach()), given).module()
    torch.testing.assert_close(exported(q.detach(), k.detach(), v.detach(), **given), expected)


def test_a_graph_of_lengths_that_follow():
    attention, given = (
        MODULE["mixed"].compile(heads=2),
        {name: each.detach().float() for name, each in inputs().items()},
    )
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True, dynamic=True)
    for n in (40, 23):
        q, k, v = tensors(n, dtype=torch.float32)
        found, wanted = compiled(q, k, v, **given), attention(q, k, v, **given)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(*(torch.autograd.grad(each.sin().sum(), (q, k, v)) for each in (found, wanted)))


def test_what_it_refuses():
    attention = MODULE["mixed"].bind(heads=2).compile()
    with pytest.raises(AttnError, match="E472"):
        attention.to_flex(gate=torch.ones(2), bias=torch.ones(9))
    with pytest.raises(AttnError, match="E297"):
        MODULE["mixed"] | MODULE["gated"]
    with pytest.raises(AttnError, match="E297"):
        ~MODULE["mixed"]
    text = "pattern p(n = 8) { space tokens[n] branch part for o in 0 .. n // 32 { attend k <= q - o } }"
    follows = maskdsl.parse(text)["p"].compile()
    q = torch.randn(1, 1, 96, 8)
    with pytest.raises(AttnError, match=r"(?s)E296.*3 branches"):
        follows(q, q, q)
    assert follows(*[q[:, :, :64]] * 3).shape == (1, 1, 64, 8)
