"""Every model of text in transformers, small, with a causal pattern: its own logits, or a declared refusal.

What comes of each is recorded in docs/libraries.md, and held here.
"""

import re
from pathlib import Path

import pytest
import torch

import maskdsl

transformers = pytest.importorskip("transformers")
from maskdsl.integrations import transformers as integration  # noqa: E402
from tests.integrations.tiny import LEFT_OUT, causal_model, causal_models  # noqa: E402

CAUSAL = maskdsl.parse("pattern causal_text(n) { space tokens[n] attend causal }")["causal_text"]
NEAR = maskdsl.parse("pattern near_text(n) { space tokens[n] attend causal and backward(2) }")["near_text"]
WITHOUT = ("falcon_mamba", "mamba", "mamba2")
"""Models that have no attention."""
OTHERWISE = {"moshi": "sdpa"}
"""The models whose eager attention is not what their others are: it looks ahead."""
FEW = [
    *("bloom", "codegen", "deepseek_v32", "doge", "falcon", "gemma3_text"),
    *("git", "gpt2", "llama", "mistral", "reformer", "qwen3_next"),
]
NAMES = [name for name, _ in causal_models() if name not in LEFT_OUT]


@pytest.fixture(scope="module", autouse=True)
def registered():
    integration.register("causal_text", CAUSAL)
    integration.register("near_text", NEAR)


@pytest.fixture(scope="module")
def recorded():
    """The code that each refused model is refused with, by docs/libraries.md."""
    rows = re.findall(r"^\| (E\d+) \|.*\| (.*) \|$", Path("docs/libraries.md").read_text(), re.MULTILINE)
    return {name: code for code, names in rows for name in re.findall(r"`(\S+?)`", names)}


@torch.no_grad()
def outcome(name):
    """ "equal", or the code of the refusal. What looks ahead or differs fails."""
    tokens = torch.randint(3, 60, (2, 21), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 60
    try:
        model = causal_model(name, "causal_text")
        ours = model(tokens).logits
    except maskdsl.AttnError as error:
        return re.search(r"E\d+", str(error)).group()
    expected = causal_model(name, OTHERWISE.get(name, "eager"))(tokens).logits
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(changed).logits[:, :-1], ours[:, :-1], rtol=1e-4, atol=1e-5)
    model.set_attn_implementation("near_text")
    assert torch.equal(model(tokens).logits, ours) == (name in WITHOUT)  # it is the pattern that is computed
    return "equal"


@pytest.mark.parametrize("name", FEW)
def test_a_few_models(name, recorded):
    assert outcome(name) == recorded.get(name, "equal")


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_model(name, recorded):
    assert outcome(name) == recorded.get(name, "equal")


def test_nothing_is_left_out_for_nothing():
    assert {*LEFT_OUT} < {name for name, _ in causal_models()} and len(NAMES) > 150
