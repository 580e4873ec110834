"""Routes by scores of groups that random programs found wrong: each in a whole call, against its dense meaning."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.available import usable_backends

ROUTES = {
    "vectors of inputs are pooled": "topk(2, dot(mean(q + q.own by chunk), max(max(k, k.own) by chunk)))",
    "heads are told apart beside pools of some": "topk(1, dot(mean(q by chunk, heads = head // 2), k) * bias[head])",
    "a condition on keys alone": "topk(2, max(dot(q, k) by k.chunk, heads = all)) where k != head",
    "a count of each head, of scores of all": "topk(1 + head, max(dot(q, k), heads = all))",
    "a share of each head, of scores of key heads": "topp(0.2 + 0.2 * head, sum(dot(q, k), heads = key_head))",
    "candidates of heads, of sums of key heads": "topk(2, dot(sum(q by chunk, heads = key_head), k)) where head != k",
    "heads that are put together compete": "topk(10, max(dot(q, k), heads = all), per = batch)",
    "overlapping groups": "above(0.25, sum(softmax(dot(q, mean(k by chunk, span = 2))) by k.chunk)) where k.chunk != 1",
    "groups of each entry": "topk(1, max(dot(q, k) by k.part))",
    "groups of each entry, some without a score": "topk(2, min(sqrt(dot(q, k)) by k.part)) where k > 1",
    "candidates of each head in finer groups": "topk(1, max(dot(q, k) by k.chunk, heads = all)) where k != head",
    "shares of what groups that overlap are gathered to": "topk(2, softmax(sum(dot(q, mean(k by chunk, span = 2))"
    " by k.chunk))) where k.chunk != 1",
    "shares of each head among some of its own": "topk(2, softmax(max(dot(q, k), heads = all) where (k != head)))",
    "shares of each head among its candidates": "topk(2, softmax(max(dot(q, k), heads = all))) where k != head",
    "heads that are put together twice": "topk(2, max(max(max(softmax(dot(q, k)), heads = key_head) by k, heads = all),"
    " heads = all)) where k != head",
    "a score of all that are no candidates": "topk(2, 1.0 if max(dot(q, k) by k.chunk) > 9.0 else 0.5) where k > 3",
    "a count of each query group": "topk(1 + q.chunk, dot(mean(q by chunk), k)) always k == 0",
}


def mask_of(lines: str) -> maskdsl.Mask:
    text = f"""
    pattern p() {{
        space tokens[9]
        coord chunk = i // 2
        input own: float[heads, tokens, dim]
        input bias: float[heads]
        input part: int[batch, tokens]
        {lines}
        attend picked
    }}"""
    return maskdsl.parse(text)["p"].bind(heads=4, key_heads=2)


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_what_is_selected_is_attended(route: str, backend: str, batch: int) -> None:
    mask = mask_of(f"route picked = {route}")
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, heads, 9, 4, dtype=torch.float64) for heads in (4, 2, 2))
    inputs = {"own": torch.randn(4, 9, 4, dtype=torch.float64), "bias": torch.randn(4, dtype=torch.float64)}
    inputs["part"] = torch.tensor([[0, 2, 2, 0, 1, 1, 4, 4, 4], [0, 0, 0, 0, 0, 0, 0, 0, 8]])[:batch]
    given = {name: x for name, x in inputs.items() if name in {each.name for each in mask.inputs}}
    out = mask.compile(backend)(q, k, v, **given)
    assert out.shape == q.shape
    for entry in range(batch):
        for head in range(4):
            attends = torch.tensor(mask.dense(head=head, batch=entry, q=q, k=k, **given))
            s = (q[entry, head] @ k[entry, head // 2].T / 2).masked_fill(~attends, -torch.inf)
            torch.testing.assert_close(out[entry, head], s.softmax(-1).nan_to_num() @ v[entry, head // 2])


def test_shares_among_more_than_may_be_selected() -> None:
    mask = mask_of("route picked = above(0.2, softmax(dot(q, k)) if k % 2 == 0 else -inf) where causal")
    q, k = (torch.randn(1, heads, 9, 4, dtype=torch.float64) for heads in (4, 2))
    shares = (q[0, 3] @ k[0, 1].T).masked_fill(~torch.ones(9, 9).tril().bool(), -torch.inf).softmax(-1)
    assert (mask.dense(head=3, q=q, k=k) == ((shares > 0.2) & (torch.arange(9) % 2 == 0)).numpy()).all()


@pytest.mark.parametrize("per", ["q", "k", "head", "batch", "(batch, k)"])
def test_names_stand_for_scores(per: str) -> None:
    score = f"dot(q, k) - min(dot(q, k), per = {per})"
    named = mask_of(f"let score_of_pair = {score} route picked = topk(2, score_of_pair)")
    q, k = (torch.randn(1, heads, 9, 4, dtype=torch.float64) for heads in (4, 2))
    written = mask_of(f"route picked = topk(2, {score})")
    assert (named.dense(q=q, k=k) == written.dense(q=q, k=k)).all()


def test_overlapping_groups_are_candidates_if_one_of_their_pairs_is() -> None:
    """Five equal shares: group 1 has tokens of 2. The score of 0 is one of them, those of 2, 3 and 4 are two."""
    share = "softmax(dot(q, mean(k by chunk, span = 2)))"
    mask = mask_of(f"route picked = above(0.25, sum({share} by k.chunk)) where k.chunk != 1")
    q, k = (torch.zeros(1, heads, 9, 4) for heads in (4, 2))
    assert (mask.dense(q=q, k=k) == [False] * 4 + [True] * 5).all()


def test_heads_that_are_put_together_compete_one_by_one() -> None:
    """Of equal pairs the first head has all: those of its first query, and one of its second."""
    mask = mask_of("route picked = topk(10, max(dot(q, k), heads = all), per = batch)")
    q, k = (torch.zeros(1, heads, 9, 4) for heads in (4, 2))
    found = [mask.dense(head=head, q=q, k=k) for head in range(4)]
    assert found[0].sum(axis=1).tolist() == [9, 1] + [0] * 7
    assert not any(each.any() for each in found[1:])


NAMED = {
    "a gather by token": "max(dot(q, mean(k by chunk)) by k)",
    "a largest score beside positions": "dot(q, k) - 0.25 * k - max(dot(q, k) - 0.25 * k)",
}


@pytest.mark.parametrize("score", NAMED.values(), ids=NAMED)
def test_names_stand_for_scores_that_look_like_vectors(score: str) -> None:
    named = mask_of(f"let best = {score} route picked = topk(2, best)")
    written = mask_of(f"route picked = topk(2, {score})")
    q, k = (torch.randn(1, heads, 9, 4, dtype=torch.float64) for heads in (4, 2))
    assert (named.dense(q=q, k=k) == written.dense(q=q, k=k)).all()


@pytest.mark.parametrize("score", ["dot(q, k)", "max(dot(q, mean(k by chunk)) by k)"])
@pytest.mark.parametrize("backend", usable_backends())
def test_candidates_read_draws(backend: str, score: str) -> None:
    drawn = "route drawn = draw(2, 7) where abs(q - k) > 1"
    mask = mask_of(f"{drawn} route picked = topk(1, {score}) where drawn or k == q")
    q, k, v = (torch.randn(1, heads, 9, 4, dtype=torch.float64) for heads in (4, 2, 2))
    attends = torch.tensor(np.array([mask.dense(head=head, q=q, k=k) for head in range(4)]))
    s = (q[0] @ k[0].repeat_interleave(2, dim=0).mT / 2).masked_fill(~attends, -torch.inf)
    torch.testing.assert_close(mask.compile(backend)(q, k, v)[0], s.softmax(-1) @ v[0].repeat_interleave(2, dim=0))


def test_candidates_of_finer_groups_hold_whatever_the_score() -> None:
    q, k = (torch.zeros(1, heads, 9, 4) for heads in (4, 2))
    mask = mask_of("route picked = topk(2, 1.0 if max(dot(q, k) by k.chunk) > 9.0 else 0.5) where k > 3")
    assert (mask.dense(q=q, k=k) == [False] * 4 + [True] * 4 + [False]).all()
    mask = mask_of("route picked = topk(1, max(dot(q, k) by k.chunk, heads = all)) where k // 2 != head")
    for head in range(4):
        chosen = 1 if head == 0 else 0
        assert (mask.dense(head=head, q=q, k=k) == (np.arange(9) // 2 == chosen)).all()


def test_what_is_gathered_by_groups_that_overlap_others_is_among_candidates_again() -> None:
    """Groups that have tokens of 2 have some of 1 and 3 too, which are no candidates: the whole share is that of 2."""
    shares = "softmax(sum(dot(q, mean(k by chunk, span = 2)) by k.chunk))"
    mask = mask_of(f"route picked = above(0.9, {shares}) where k.chunk == 2")
    q, k = (torch.zeros(1, heads, 9, 4) for heads in (4, 2))
    assert (mask.dense(q=q, k=k) == (np.arange(9) // 2 == 2)).all()


@pytest.mark.parametrize(
    "selector",
    [
        "above(0.12, softmax(max(dot(q, k), heads = all) where (k != head)))",
        "above(0.12, softmax(max(dot(q, k), heads = all))) where k != head",
    ],
)
def test_shares_are_among_the_candidates_of_each_head(selector: str) -> None:
    """Eight equal shares in each head, of other keys."""
    mask = mask_of(f"route picked = {selector}")
    q, k = (torch.zeros(1, heads, 9, 4) for heads in (4, 2))
    for head in range(4):
        assert (mask.dense(head=head, q=q, k=k) == (np.arange(9) != head)).all()


def test_scores_of_inputs_alone_are_as_wide_as_the_queries() -> None:
    """The lowest number of float64 is none of float32, where it would be minus infinity, which is never selected."""
    mask = maskdsl.parse("pattern p() { space t[6] input worth: float[tokens] route r = topk(3, k.worth) attend r }")[
        "p"
    ]
    q = torch.randn(1, 1, 6, 4, dtype=torch.float64)
    worth = torch.full((6,), torch.finfo(torch.float64).min, dtype=torch.float64)
    for backend in usable_backends():
        _, routes = mask.bind().compile(backend)(q, q, q, worth=worth, return_routes=True)
        assert routes["r"].flatten().tolist() == [True] * 3 + [False] * 3
