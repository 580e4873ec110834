"""What routes hold in memory while they score: a block of rows, one product at a time, views of inputs."""

import weakref
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import maskdsl
from maskdsl.emit.plan import make_plan
from maskdsl.ir.mask import MaskIR
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.kernels.route_finder import RouteFinder

routing, scores = (import_module(f"maskdsl.codegen.{name}") for name in ("routing", "scores"))
EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"


class Held(TorchDispatchMode):
    """Records the sizes of the floats that are computed, how many large ones live at once, and the rows of `topk`."""

    def __init__(self, large: int) -> None:
        super().__init__()
        self.large, self.most, self.at_once, self.selections = large, 0, 0, []
        self.living: list[weakref.ref[torch.Tensor]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.topk.default:
            self.selections.append(args[0].shape)
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor) and each.is_floating_point() and not each._is_view():
                self.most = max(self.most, each.numel())
                self.living += [weakref.ref(each)] if each.numel() >= self.large else []
        self.living = [each for each in self.living if each() is not None]
        self.at_once = max(self.at_once, len({each().untyped_storage().data_ptr() for each in self.living}))  # type: ignore[union-attr]
        return result


def found(mask: MaskIR, held: Held, q: torch.Tensor, k: torch.Tensor, inputs: dict[str, torch.Tensor]) -> None:
    """Finds the routes of a mask."""
    finder = RouteFinder.of(make_plan(mask), CallStates())
    with held:
        finder.find(q, k, [inputs[each.name] for each in mask.passed])


def test_one_product_is_in_memory_at_a_time() -> None:
    """Of 24 products of index heads, for blocks of rows; their sum is one more tensor, a copy of a term another."""
    n, heads, width = 2048, 24, 4
    mask = maskdsl.load(EXAMPLES / "dsa.attn")["dsa"].bind(n=n, top=16, index_heads=heads, width=width)
    q, k = torch.randn(2, 1, 1, n, 8)
    inputs = {
        "iq": torch.randn(1, heads, n, width),
        "ik": torch.randn(1, n, width),
        "iw": torch.randn(1, heads, n),
    }
    held = Held(scores.MOST_IN_CACHE // 2)
    found(mask.ir, held, q, k, inputs)
    assert held.most <= scores.MOST_IN_CACHE
    assert 1 <= held.at_once <= 6


def test_heads_that_share_a_selection_select_once() -> None:
    mask = maskdsl.load(EXAMPLES / "infllm.attn")["infllm"].bind(n=2048, top=7, heads=8, key_heads=2)
    q, k = torch.randn(1, 8, 2048, 8), torch.randn(1, 2, 2048, 8)
    held = Held(1)
    found(mask.ir, held, q, k, {"dim": torch.tensor(8)})
    assert held.selections
    assert {shape[1] for shape in held.selections} == {2}


@pytest.mark.parametrize("is_view", [True, False])
def test_rows_of_inputs_are_views_where_indices_count_up(is_view: bool) -> None:
    table = torch.randn(3, 4, 5, 2)
    batch, head, token = torch.arange(3)[:, None, None], torch.arange(2)[:, None], torch.arange(1, 5)
    for order in ((0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1), (1, 0, 2)):
        dimensions = [(batch, head, token)[axis] for axis in order]
        one = table.permute(*order, 3)
        if not is_view:
            dimensions[0] = (
                dimensions[0].flip(0).flip(-1).flip(-2) if dimensions[0].dim() == 3 else dimensions[0].flip(0)
            )
        found = routing.rows_of(one, *dimensions)
        expected = one[tuple(dimensions)]
        assert torch.equal(found, expected.reshape(*(1,) * (4 - expected.dim()), *expected.shape))
        assert (found.untyped_storage().data_ptr() == table.untyped_storage().data_ptr()) == is_view


@pytest.mark.parametrize(
    "indices",
    [
        (torch.tensor(2), torch.arange(4)),
        (torch.arange(3)[:, None, None], torch.tensor(1)),
        (torch.arange(3), torch.arange(3)),
        (torch.arange(2, 5), torch.tensor([0])),
        (torch.tensor(1), torch.tensor(3)),
        (torch.tensor([0, 0, 1]), torch.arange(3)[:, None]),
        (torch.arange(0), torch.arange(2)[:, None]),
    ],
)
def test_rows_of_inputs(indices: tuple[torch.Tensor, ...]) -> None:
    """Constants, one axis twice, indices outside of the table, which are clamped, and none."""
    table = torch.randn(3, 4, 2)
    expected = table[indices[0].clamp(0, 2), indices[1].clamp(0, 3)]
    found = routing.rows_of(table, *indices)
    shape = torch.broadcast_shapes(*(each.shape for each in indices))
    assert torch.equal(found, expected.view(*(1,) * (3 - len(shape)), *shape, 2))
