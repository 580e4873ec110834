"""The masks of attention-gym, at three sizes or packings each: recognised, equal on all pairs, and free of data.

What is given to a mask as a tensor must be an input of the pattern: its text is one for all packings.
"""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.api.recognition.predicates import evaluated

masks = pytest.importorskip("attn_gym.masks")
documents = pytest.importorskip("attn_gym.masks.document_mask")
pytestmark = pytest.mark.long


def offsets(lengths):
    return documents.length_to_offsets(list(lengths), "cpu")


def marked(n, *at):
    tokens = torch.zeros(n, dtype=torch.bool)
    tokens[list(at)] = True
    return tokens


def per_head(*sizes):
    table = torch.tensor(sizes)
    return lambda b, h, q, k: (q - k).abs() <= table[h]


def everything(b, h, q, k):
    return q >= 0


def chosen(heads, tiles, top):
    return torch.rand(1, heads, tiles, tiles, generator=torch.Generator().manual_seed(tiles)).topk(top).indices


def on_lengths(make, *packings):
    return [(make(offsets(lengths)), sum(lengths)) for lengths in packings]


PACKINGS = (20, 44), (100, 60, 140), (150, 150), (200, 100, 100, 113), (30, 30)
SHARED = ((10, 20, 30), (0, 0, 0)), ((50, 60, 70, 80, 90), (0, 0, 0, 3, 3)), ((100, 60, 70, 80), (0, 0, 0, 0))
TREES = (20, (-1, 0, 0, 1, 1, 2, 2)), (100, (-1, 0, 0, 0, 1, 1, 2, 3, 4, 4)), (9, (-1, 0, 1, 0, 3, 3))
STA2 = ((16, 16), (12, 12), (4, 4), 0), ((32, 16), (12, 12), (4, 4), 20), ((24, 32), (24, 24), (8, 8), 0)
STA3 = (
    ((6, 8, 8), (6, 6, 6), (2,) * 3, 0),
    ((6, 8, 12), (6, 6, 6), (2,) * 3, 13),
    ((8, 12, 12), (6, 12, 12), (2, 4, 4), 0),
)
FLAMINGO = (
    ([[0, 40], [20, 52], [10, 64]], 16, 64),
    ([[0, 200], [40, 120], [100, 300]], 25, 300),
    ([[5, 300], [100, 250], [20, 400]], 64, 512),
)
FIXED = {
    "causal": lambda: [(masks.causal_mask, n) for n in (64, 300, 513)],
    "sliding window": lambda: [(masks.generate_sliding_window(w), n) for w, n in ((8, 64), (64, 300), (100, 513))],
    "dilated": lambda: [
        (masks.generate_dilated_sliding_window(*sizes), n) for *sizes, n in ((8, 2, 64), (64, 4, 300), (100, 7, 513))
    ],
    "prefix": lambda: [(masks.generate_prefix_lm_mask(p), n) for p, n in ((8, 64), (64, 300), (100, 513))],
    "first tokens": lambda: [
        (masks.generate_global_sliding_window(w, marked(n, *range(count))), n)
        for w, n, count in ((8, 64, 1), (32, 300, 2), (50, 513, 4))
    ],
    "neighbourhood": lambda: [
        (masks.generate_natten(*c), c[0] * c[1]) for c in ((8, 8, 3, 3), (16, 16, 5, 7), (24, 24, 7, 5))
    ],
    "neighbourhood in tiles": lambda: [
        (masks.generate_tiled_natten(*c), c[0] * c[1])
        for c in ((8, 8, 3, 3, 4, 4), (16, 16, 5, 7, 8, 4), (32, 24, 7, 5, 8, 8))
    ],
    "neighbourhood along Morton's curve": lambda: [
        (masks.generate_morton_natten(*c), c[0] * c[1]) for c in ((8, 8, 3, 3), (16, 16, 5, 7), (32, 32, 7, 5))
    ],
    "batchify": lambda: [
        (masks.batchify_mask_mod(inner, size), n)
        for inner, size, n in (
            (masks.causal_mask, 16, 64),
            (everything, 60, 300),
            (masks.generate_sliding_window(20), 57, 513),
        )
    ],
    "sliding tiles of images": lambda: [(masks.generate_sta_mask_mod_2d(*c), c[0][0] * c[0][1] + c[3]) for c in STA2],
    "sliding tiles of videos": lambda: [(masks.generate_sta_mask_mod_3d(*c), int(np.prod(c[0])) + c[3]) for c in STA3],
    "spatial": lambda: [
        (masks.generate_spatial_head_mask_mod(*c), c[0] + c[1] * c[2])
        for c in ((10, 5, 20, 2, False, 8), (16, 6, 30, 2, True, 16), (0, 6, 64, 1, False, 32))
    ],
    "temporal": lambda: [
        (masks.generate_temporal_head_mask_mod(*c), c[0] + c[1] * c[2])
        for c in ((10, 5, 20, 2), (16, 6, 30, 2), (0, 6, 64, 1))
    ],
    "windows of heads": lambda: [
        (per_head(*sizes), n, None, len(sizes)) for sizes, n in (((2, 4, 8), 64), ((8, 16), 300), ((32, 64, 32), 200))
    ],
    "drafts in blocks": lambda: [
        (masks.generate_jetspec_training_mask_mod(prefix, size), size * count, prefix + size * count)
        for prefix, size, count in ((20, 4, 5), (100, 16, 8), (64, 8, 20))
    ],
    "block diffusion": lambda: [
        (masks.generate_block_diffusion_mask(n, size), 2 * n) for n, size in ((32, 4), (150, 16), (256, 1))
    ],
}
"""Masks of sizes alone."""
OF_DATA = {
    "causal documents": lambda: on_lengths(lambda at: masks.generate_doc_mask_mod(masks.causal_mask, at), *PACKINGS),
    "documents": lambda: on_lengths(lambda at: masks.generate_doc_mask_mod(everything, at), *PACKINGS),
    "packed causal documents": lambda: on_lengths(masks.generate_packed_causal_doc_mask_mod, *PACKINGS),
    "prefixes of documents": lambda: [
        (masks.generate_doc_mask_mod(masks.generate_prefix_lm_mask(prefix), offsets(lengths)), sum(lengths))
        for prefix, lengths in ((5, (20, 44)), (10, (100, 60, 140)), (20, (200, 100, 100, 113)))
    ],
    "shared prefixes": lambda: [
        (masks.generate_shared_prefix_mask_mod(offsets(lengths), torch.tensor(of)), sum(lengths))
        for lengths, of in SHARED
    ],
    "global tokens": lambda: [
        (masks.generate_global_sliding_window(32, marked(n, *at)), n)
        for n, at in ((200, (3, 150)), (300, (0, 150)), (513, (7, 8, 9, 300, 512)))
    ],
    "media": lambda: [
        (masks.generate_vision_cross_attention_mask_mod(torch.tensor(each), size), n, size * len(each))
        for each, size, n in FLAMINGO
    ],
    "trees": lambda: [
        (
            masks.generate_jetspec_tree_causal_mask_mod(prefix, masks.build_tree_ancestor_matrix(parents, "cpu")),
            len(parents),
            prefix + len(parents),
        )
        for prefix, parents in TREES
    ],
    "chosen tiles": lambda: [
        (masks.generate_vsa_mask_mod(chosen(heads, tiles, top), 16), 16 * tiles, None, heads)
        for heads, tiles, top in ((2, 8, 3), (2, 12, 4), (2, 10, 3))
    ],
}
"""Masks that are given tensors."""


def recognised(function, n, keys=None, heads=1):
    """The import, compared on all pairs."""
    found = maskdsl.from_mask_mod(function, n, keys, heads=heads)
    pairs = evaluated(function, (1, heads, n, keys or n))[0]
    for head in range(heads):
        here = found.mask.dense(head if found.mask.heads > 1 else 0, **found.inputs)
        np.testing.assert_array_equal(here, pairs[head])
    assert found.pattern is not None
    return found


@pytest.mark.parametrize("name", FIXED)
def test_masks_of_sizes(name):
    for case in FIXED[name]():
        assert not recognised(*case).inputs


@pytest.mark.parametrize("name", OF_DATA)
def test_masks_of_data(name):
    found = [recognised(*case) for case in OF_DATA[name]()]
    assert all(each.inputs for each in found)
    assert len({each.pattern for each in found}) == 1
