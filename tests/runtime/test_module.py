"""A compiled attention is a module of torch: in models, under hooks, copied, moved and compiled with them."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maskdsl

PATTERN = maskdsl.parse("pattern near(n, size = 8) { space t[n] attend causal and backward(size) }")["near"]
FIXED = PATTERN.bind(n=20, heads=2).compile("tiled")
FOLLOWING = PATTERN.compile("tiled", heads=2)
BOTH = pytest.mark.parametrize("attention", [FIXED, FOLLOWING], ids=["fixed", "following"])
Compiled = maskdsl.Attention | maskdsl.FollowingAttention


class Block(nn.Module):
    def __init__(self, attention: Compiled) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.project(x), x, x)


def tokens() -> Tensor:
    return torch.randn(1, 2, 20, 8, generator=torch.Generator().manual_seed(0))


def copies(module: Any) -> list[Any]:
    return [copy.deepcopy(module), copy.copy(module), pickle.loads(pickle.dumps(module))]


@BOTH
def test_a_model_prints_and_finds_it(attention: Compiled) -> None:
    model = nn.Sequential(Block(attention), Block(attention))
    assert model[0].attention is attention
    assert [name for name, each in model.named_modules() if each is attention] == ["0.attention"]
    assert f"(attention): {attention!r}\n" in repr(model)


def test_what_it_is_printed_as() -> None:
    assert repr(FIXED) == "Attention(near, 20 x 20, heads=2, backend='tiled')"
    assert repr(FOLLOWING) == "FollowingAttention(near, follow=('n',), heads=2, backend='tiled')"


@BOTH
def test_nothing_of_it_is_state(attention: Compiled) -> None:
    assert not attention.state_dict() and not [*attention.parameters()] and not [*attention.buffers()]
    block = Block(attention)
    assert [*block.state_dict()] == ["project.weight", "project.bias"]
    before = {"project.weight": torch.zeros(8, 8), "project.bias": torch.zeros(8)}  # it was no module
    assert not any(block.load_state_dict(before))


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.to(torch.float64),
        lambda m: m.to("cpu"),
        lambda m: m.half().float(),
        lambda m: m.type(torch.float64),
        lambda m: m.train(),
        lambda m: m.eval(),
        lambda m: m.requires_grad_(False),
        lambda m: m.share_memory(),
        lambda m: m.apply(lambda each: None),
    ],
)
def test_moves_and_modes_change_nothing(attention: Compiled, change: Callable[[nn.Module], nn.Module]) -> None:
    own, x = copy.deepcopy(attention), tokens()
    assert change(own) is own
    assert torch.equal(own(x, x, x), attention(x, x, x))


@BOTH
def test_modes_of_the_model_reach_it(attention: Compiled) -> None:
    block = Block(copy.deepcopy(attention))
    assert block.attention.training and not block.eval().attention.training


@BOTH
def test_hooks_see_what_calls_take_and_give(attention: Compiled) -> None:
    own, x, seen = copy.deepcopy(attention), tokens().requires_grad_(), []
    expected = attention(x, x, x)

    def before(module: nn.Module, args: Any, named: Any) -> Any:
        seen.append((module, len(args), named))
        return (2 * args[0], *args[1:]), named

    handles = [
        own.register_forward_pre_hook(before, with_kwargs=True),
        own.register_forward_hook(lambda module, args, out: (out[0] + 1, out[1])),
        own.register_full_backward_hook(lambda module, into, out: seen.append(out[0].shape)),
    ]
    out, _ = own(x, x, x, return_lse=True)
    torch.testing.assert_close(out, attention(2 * x, x, x) + 1)
    out.sum().backward()
    assert seen == [(own, 3, {"return_lse": True}), out.shape]
    for each in handles:
        each.remove()
    assert torch.equal(own(x, x, x), expected)


@BOTH
def test_forward_may_be_replaced(attention: Compiled) -> None:
    """As libraries that place models on devices do."""
    own, x = copy.deepcopy(attention), tokens()
    forward = own.forward
    own.forward = lambda *args, **named: -forward(*args, **named)  # type: ignore[assignment, method-assign]
    assert torch.equal(own(x, x, x), -attention(x, x, x))


@BOTH
def test_copies_of_models(attention: Compiled) -> None:
    block, x = Block(attention), tokens()
    for each in copies(block):
        assert torch.equal(each(x), block(x))
        assert repr(each) == repr(block) and each.attention.inputs == attention.inputs


def test_copies_have_hooks_and_modes_of_their_own() -> None:
    own = copy.deepcopy(FIXED).eval()
    own.register_forward_hook(print)
    for each in (copy.deepcopy(own), copy.deepcopy(FIXED)):
        assert each.training is (len(each._forward_hooks) == 0)
    assert FIXED.training and not FIXED._forward_hooks


@BOTH
def test_compiled_in_place_and_around(attention: Compiled) -> None:
    own, x = copy.deepcopy(attention), tokens()
    expected = own(x, x, x)
    assert torch.equal(torch.compile(own, fullgraph=True, backend="eager")(x, x, x), expected)
    own.compile(fullgraph=True, backend="eager")
    assert torch.equal(own(x, x, x), expected)
    block = torch.compile(Block(attention).eval(), fullgraph=True, backend="eager")
    assert block(x).shape == x.shape


@BOTH
def test_exported_alone(attention: Compiled) -> None:
    x = tokens()
    exported = torch.export.export(attention, (x, x, x))
    assert torch.equal(exported.module()(x, x, x), attention(x, x, x))


def test_one_length_or_another() -> None:
    assert FIXED.at(7) is FIXED
    assert (FIXED.query_length, FIXED.key_length, FIXED.self_attention) == (20, 20, True)
    other = FOLLOWING.at(7)
    assert (other.query_length, other.name, other.backend) == (7, "near", "tiled")
    x = tokens()[:, :, :7]
    assert torch.equal(other(x, x, x), FOLLOWING(x, x, x))


@pytest.mark.parametrize(
    ("text", "distance", "reaches"),
    [
        ("attend causal and backward(8)", 7, True),
        ("attend causal and backward(8)", 8, False),
        ("attend causal and backward(8) order by i % 2", 8, False),
        ("attend q < k", 0, False),
        ("input d: int[t] attend causal and same(d)", 1, None),
        ("coord c = i // 4 route r = topk(1, dot(q, mean(k by c))) where k.c < q.c attend r", 19, True),
        ("coord c = i // 4 route r = topk(1, dot(q, mean(k by c))) where k.c == q.c attend r", 4, False),
    ],
)
def test_how_far_back(text: str, distance: int, reaches: bool | None) -> None:
    attention = maskdsl.parse(f"pattern p(n = 20) {{ space t[n] {text} }}")["p"].bind().compile("tiled")
    assert attention.reaches(distance) is reaches


@pytest.mark.parametrize(("text", "changes"), [("", False), ("score 2 * s", True)])
def test_what_changes_scores(text: str, changes: bool) -> None:
    pattern = maskdsl.parse(f"pattern p(n) {{ space t[n] input d: int[t] attend causal and same(d) {text} }}")["p"]
    for attention in (pattern.bind(n=4).compile(), pattern.compile()):
        assert attention.changes_scores is changes
        assert attention.inputs == ("d",) and attention.span is not None
