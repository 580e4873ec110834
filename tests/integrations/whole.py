"""Whole models of transformers, small, each with the patterns that say what its own masks do, and calls of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

import maskdsl
from tests.integrations.tiny import tiny

MODULE = maskdsl.parse("""
pattern local(n, size = 6) { space tokens[n] attend causal and backward(size) }
pattern around(n, radius = 3) { space tokens[n] attend abs(q - k) <= radius }
pattern chunked(n, chunk = 6) { space tokens[n] attend causal and q // chunk == k // chunk }
pattern prefix(n) {
    space tokens[n]
    input in_prefix: bool[batch, tokens]
    attend causal or (q.in_prefix and k.in_prefix)
}
pattern pictures(n) {
    space tokens[n]
    input picture: int[batch, tokens]
    attend causal or (same(picture) and q.picture >= 0)
}
pattern near_pictures(n, size = 6) {
    space tokens[n]
    input picture: int[batch, tokens]
    attend (causal or (same(picture) and q.picture >= 0)) and q - k < size
}
pattern biased(n, sees_ahead = False) {
    space tokens[n]
    input position_bias: float[batch, heads, tokens, tokens]
    attend causal if not sees_ahead else all -> all
    score s + position_bias[batch, head, q, k]
}
pattern sunk(n, size = 0) {
    space tokens[n]
    input logit: float[heads]
    let all_or_some = size if size > 0 else n
    attend causal and backward(all_or_some)
    sink logit[head]
}
pattern across(m, n) { space queries_[m] space keys_[n] queries queries_ keys keys_ attend all -> all }
""")
CAUSAL, DENSE = MODULE["causal_dense"], MODULE["dense"]
ACROSS = MODULE["across"].compile(heads=4, follow=("m", "n"))
LENGTHS = (13, 8, 5)
SLIDING = {"sliding_attention": MODULE["local"], "full_attention": CAUSAL}


def drawn(*shape: int) -> torch.Tensor:
    return torch.randint(6, 60, shape, generator=torch.Generator().manual_seed(1))


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def padding(side: str, lengths: tuple[int, ...] = LENGTHS) -> torch.Tensor:
    """Which of some tokens are there, int [batch, tokens]: all of them, or as many as these on one side."""
    index, most = torch.arange(max(lengths)), max(lengths)
    counts = torch.tensor(lengths)[:, None]
    present = {"none": counts > 0, "left": index >= most - counts, "right": index < counts}[side]
    return present.long().expand(len(lengths), most)


def texts(side: str) -> dict[str, Any]:
    return {"input_ids": drawn(len(LENGTHS), max(LENGTHS)), "attention_mask": padding(side)}


def translated(side: str) -> dict[str, Any]:
    """Sources with padding, and targets with padding."""
    return {**texts(side), "decoder_input_ids": drawn(3, 13).flip(0), "decoder_attention_mask": padding(side)}


def heard(side: str) -> dict[str, Any]:
    return {
        "input_features": normal(3, 8, 26),
        "decoder_input_ids": drawn(3, 13),
        "decoder_attention_mask": padding(side),
    }


IMAGE = 3
"""The token that stands for a patch of an image."""


def looked_at(side: str) -> dict[str, Any]:
    return {"pixel_values": normal(3, 3, 8, 8)}


def paired(side: str) -> dict[str, Any]:
    """Texts and images that are compared; a text ends with the largest number of a token."""
    tokens, mask = drawn(3, 13), padding(side)
    ends = mask.cumsum(1).argmax(1)
    return {**looked_at(side), "input_ids": tokens.scatter(1, ends[:, None], 62), "attention_mask": mask}


def shown(side: str) -> dict[str, Any]:
    """Texts with images of four tokens each: two in the first, one in the second."""
    tokens, mask = drawn(2, 16), padding(side, (16, 11))
    for row, first in ((0, 3), (0, 10), (1, 7)):
        tokens[row, first : first + 4] = IMAGE
    if side == "right":
        tokens[1] = tokens[1].roll(-5)
    return {"input_ids": tokens, "attention_mask": mask, "pixel_values": normal(3, 3, 8, 8)}


def shown_in_spans(side: str) -> dict[str, Any]:
    """Tokens of an image attend each other, which the model says by types of tokens, and the pattern by numbers."""
    given = shown(side)
    is_image = given["input_ids"] == IMAGE
    begins = is_image & ~torch.nn.functional.pad(is_image, (1, 0))[:, :-1]
    return {
        **given,
        "token_type_ids": is_image.long(),
        "picture": (begins.cumsum(1) - 1).masked_fill(~is_image, -1),
    }


def shown_in_front(side: str) -> dict[str, Any]:
    """An image and a question attend each other, and what follows attends what is before it."""
    tokens, mask = drawn(2, 14), padding(side, (14, 10))
    suffix = torch.tensor([[0] * 9 + [1] * 5, [0] * 11 + [1] * 3])
    if side == "right":
        suffix[1] = suffix[1].roll(-4)
    tokens[0, :4] = IMAGE
    tokens[1, 4:8] = IMAGE
    if side == "right":
        tokens[1] = tokens[1].roll(-4)
    given = {"input_ids": tokens, "attention_mask": mask, "pixel_values": normal(2, 3, 8, 8)}
    return {**given, "token_type_ids": suffix, "in_prefix": suffix == 0}


@dataclass(frozen=True)
class Whole:
    """A model, the patterns of its layers, and its calls."""

    kind: str
    choice: Any
    own: Mapping[str, Any] = field(default_factory=dict)
    """Of its configuration, beside small sizes."""
    masks: str = "refuse"
    given: Callable[[str], dict[str, Any]] = texts
    caches: tuple[str, ...] = ("dynamic", "static")
    """Those that it generates with."""
    mine: frozenset[str] = frozenset()
    """The inputs of its patterns."""
    result: str = "logits"
    """Of what it returns, what is compared."""

    def made(self) -> Any:
        kind = getattr(transformers, self.kind)
        transformers.set_seed(0)
        config = tiny(kind.config_class, **self.own)
        model = kind(config).float().eval()
        for name, each in model.named_parameters():  # what begins as zeros or ones would hide mistakes
            if each.min() == each.max() or "sinks" in name or "relative" in name:
                torch.nn.init.normal_(each, each.mean().item(), 0.3, generator=torch.Generator().manual_seed(3))
        return model

    def call(self, side: str, by_pattern: bool) -> dict[str, Any]:
        """The arguments of a call, with the inputs of its patterns or without."""
        return {name: value for name, value in self.given(side).items() if by_pattern or name not in self.mine}

    def results(self, model: Any, side: str, by_pattern: bool) -> torch.Tensor:
        """The results of a call, of tokens that are no padding."""
        call = self.call(side, by_pattern)
        out = getattr(model(**call), self.result)
        mask = call.get("decoder_attention_mask", call.get("attention_mask"))
        return out if mask is None or self.result != "logits" else out[mask.bool()]

    def gradients(self, model: Any, side: str, by_pattern: bool) -> dict[str, torch.Tensor]:
        """The gradients of all weights that have one."""
        model.zero_grad()
        self.results(model, side, by_pattern).square().sum().backward()
        return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
