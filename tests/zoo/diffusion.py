"""Transformers of diffusers, call by call of torch's attention: among all tokens, to a text, with padding, by frame."""

from collections.abc import Iterator

import torch

import maskdsl
from tests.integrations.diffusion_models import BY_PATTERN, OTHERS, PADDED, Model
from tests.zoo.capture import Softmaxed, attentions
from tests.zoo.families import Compared, Family

PATTERNS = maskdsl.parse("""
pattern all_(n) { space tokens[n] attend all -> all }
pattern across(m, n) { space asking[m] space asked[n] queries asking keys asked attend all -> all }
pattern present(m, n) {
    space asking[m]
    space asked[n]
    queries asking
    keys asked
    input there: bool[batch, keys]
    attend k.there
}
pattern refiner(n) {  # of HunyuanVideo: padding sees the first token, and nothing else
    space text[n]
    input there: bool[batch, text]
    attend (q.there and k.there) or k == 0
}
pattern frames(t, n, step) {
    space video[t = t, place = n]
    attend k.t // step <= q.t // step
}
""")


def compared(each: Softmaxed) -> Compared:
    """One call. What its mask hides is the same for all queries, but for those that are padding and see nothing."""
    m, n = each.q.shape[2], each.k.shape[2]
    vectors = each.q, each.k, each.v, each.out, each.leaves
    if each.mask is None:
        mask = PATTERNS["all_"].bind(n=n) if m == n else PATTERNS["across"].bind(m=m, n=n)
        return Compared(mask, *vectors)
    shown = each.mask if each.mask.dtype == torch.bool else each.mask > -1e3
    pairs = shown.reshape((1,) * (4 - shown.dim()) + shown.shape).expand(len(each.q), -1, m, n)[:, 0]
    rows, keys = pairs.any(2), pairs.any(1)
    if not bool((pairs == rows[:, :, None] & keys[:, None]).all()):
        return Compared(PATTERNS["refiner"].bind(n=n), *vectors, {"there": pairs[:, 1]})
    return Compared(PATTERNS["present"].bind(m=m, n=n), *vectors, {"there": keys}, rows=rows)


def calls(model: Model) -> Family:
    """Those of a model."""

    def family() -> Iterator[Compared]:
        module, given = model.made()
        found = attentions(module, **given)
        assert found
        yield from map(compared, found)

    return family


def sky_reels() -> Iterator[Compared]:
    """A video whose frames attend each other two by two, and those before."""
    own = {"patch_size": (1, 2, 2), "num_frame_per_block": 2, "in_channels": 4, "out_channels": 4, "text_dim": 8}
    model = Model(
        "SkyReelsV2Transformer3DModel",
        {"hidden_states": (1, 4, 4, 8, 8), "timestep": torch.tensor([3]), "encoder_hidden_states": (1, 6, 8)},
        {**own, "attention_head_dim": 12, "pos_embed_seq_len": None},
    )
    module, given = model.made()
    by_frames = [each for each in attentions(module, **given) if each.mask is not None]
    assert by_frames
    for each in by_frames:
        mask = PATTERNS["frames"].bind(t=4, n=16, step=2)
        yield Compared(mask, each.q, each.k, each.v, each.out, each.leaves)


FAMILIES: dict[str, Family] = {
    **{f"diffusers_{name}": calls(model) for name, model in {**BY_PATTERN, **PADDED, **OTHERS}.items()},
    "diffusers_sky_reels": sky_reels,
}
