"""Predictions of whole masks: the kernels' own blocks, forward and backward, against dense attention."""

import json

import pytest

import maskdsl
from maskdsl.analysis.cost.devices import DEVICES, find_device
from maskdsl.analysis.cost.model import FORWARD, predict
from maskdsl.analysis.cost.tile_table import Architecture, KernelName, ladder
from maskdsl.base.diagnostics import AttnError

WINDOW = "pattern local(n = 32768, size = 1024) { space tokens[n] attend backward(size) and causal }"


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
@pytest.mark.parametrize("dim", [64, 128, 300])
def test_kernels_are_predicted_in_their_own_blocks(device, dim):
    mask = maskdsl.parse(WINDOW)["local"].bind(heads=8)
    found = mask.predict(device.name.lower(), head_dim=dim, batch=2)
    kernels = (found.forward, *found.gradients)
    for each, kernel in zip(
        kernels, (KernelName.FORWARD, KernelName.QUERY_GRADIENT, KernelName.KEY_GRADIENT), strict=True
    ):
        assert each.tile_choice == ladder(Architecture(device.architecture), kernel, min(dim, 256), 2)[0]
        assert 5 < each.speedup < 32
    choice = found.forward.tile_choice
    alone = predict(
        mask.tiles(choice.block), device, FORWARD, head_dim=dim, batch=2, warps=choice.warps, stages=choice.stages
    )
    assert found.forward.cost == alone and found.forward_seconds == alone.seconds
    assert found.backward_seconds == sum(each.cost.seconds for each in found.gradients) > found.forward_seconds


def test_dense_attention_is_no_faster_than_itself():
    mask = maskdsl.parse("pattern p(n = 4096) { space t[n] attend all -> all }")["p"].bind(heads=16)
    found = mask.predict("H100")
    assert found.forward_speedup == found.backward_speedup == 1


def test_balance_counts_as_well_as_pairs():
    """Longformer's one global query is a row of all tiles: its program alone takes longer than all others together."""
    pattern = maskdsl.load("examples/language/longformer.attn")["longformer"]
    with_global = pattern.bind(n=65536, globals=1, heads=4)
    found = with_global.predict("H100")
    assert found.forward.cost.limit == "long row"
    assert found.forward_speedup < with_global.stats().total.speedup_bound / 4


def test_inputs_and_json():
    mask = maskdsl.load("examples/language/packed.attn")["packed"].bind(n=1024, heads=2)
    found = mask.predict("B200", document=[i // 300 for i in range(1024)]).as_dict()
    assert found["gpu"] == "B200" and len(json.loads(json.dumps(found))["kernels"]) == 3


def test_stacks_are_the_sum_of_their_layers():
    stack = maskdsl.load("examples/language/gemma.attn").stack("gemma3").bind(n=16384, heads=4)
    found = stack.predict("H100", head_dim=128)
    local, whole = (mask.predict("H100", head_dim=128) for mask in stack.different)
    assert found.different == (local, whole) and found.index == (0, 0, 0, 0, 0, 1)
    assert found.forward_seconds == pytest.approx(5 * local.forward_seconds + whole.forward_seconds)
    assert found.backward_seconds == pytest.approx(5 * local.backward_seconds + whole.backward_seconds)
    assert whole.forward_speedup < found.forward_speedup < local.forward_speedup
    assert json.loads(json.dumps(found.as_dict()))["index"] == [0, 0, 0, 0, 0, 1]


def test_unknown_gpus():
    mask = maskdsl.parse(WINDOW)["local"].bind()
    with pytest.raises(AttnError, match="E352"):
        mask.predict("TPU")
    assert find_device("Mi300x").name == "MI300X"
