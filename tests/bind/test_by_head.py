"""Constants of each head: entries of tuples and powers that the head alone decides."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl import AttnError, Mask
from maskdsl.ir.heads import Heads

SIZES = (3, 9, 5, 20)


def bound(line: str, heads: int = 4, **options: int) -> Mask:
    text = f"pattern p(n = 40, sizes = {SIZES}) {{ space tokens[n]  attend {line} }}"
    return maskdsl.parse(text)["p"].bind(heads=heads, **options)


def windows(*sizes: int) -> np.ndarray:
    """The last `size` tokens, for each head: bool [heads, 40, 40]."""
    back = np.subtract.outer(np.arange(40), np.arange(40))
    return np.stack([(back >= 0) & (back < size) for size in sizes])


def dense(mask: Mask) -> np.ndarray:
    return np.stack([mask.dense(head=head) for head in range(mask.heads)])


@pytest.mark.parametrize(
    ("line", "sizes"),
    [
        ("backward(sizes[head])", SIZES),
        ("backward(sizes[3 - head])", SIZES[::-1]),
        ("backward(sizes[head // 2] + head)", (3, 4, 11, 12)),
        ("backward(2 ** head)", (1, 2, 4, 8)),
        ("backward(5 * 2 ** (head % 2))", (5, 10, 5, 10)),
        ("causal and float(q - k) < 2.0 ** (head - 1)", (1, 1, 2, 4)),
        ("causal and (q - k) ** (head + 1) < 27", (27, 6, 3, 3)),
    ],
)
def test_every_head_has_its_constant(line: str, sizes: tuple[int, ...]) -> None:
    assert (dense(bound(line)) == windows(*sizes)).all()


def test_the_heads_of_one_process() -> None:
    here = bound("backward(sizes[head])", first_head=2, local_heads=2)
    assert (dense(here) == windows(5, 20)).all()


def test_tiles_of_many_heads_are_exact() -> None:
    mask = bound("backward(1 + 2 ** (head // 8))", heads=48)
    assert (dense(mask) == windows(*(1 + 2 ** (head // 8) for head in range(48)))).all()
    tiles = mask.tiles(block=(8, 8))
    assert len({int(each) for each in tiles.class_of_head[0]}) == 6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("backward(sizes[head])", ("0 to 4, where 0 to 3 are allowed", "there are 5 heads and 4 entries")),
        ("backward(sizes[head - 1])", ("-1 to 3, where 0 to 3 are allowed", "outside for head 0\n")),
        ("backward(sizes[2 * head])", ("0 to 8, where 0 to 3 are allowed", "outside for head 2 and 2 more")),
        ("backward(sizes[head + batch])", ("must be known when the pattern is bound", "this depends on the batch")),
        ('window(1)  assert sizes[head % 4] > 2, ""', ("must be known when", "this depends on the head")),
        ('window(1)  assert batch > 2, ""', ("must be known when", "this depends on the batch")),
        ("backward(2 ** (head * 20))", ("64 bits",)),
        ("backward(2 ** (head - 3))", ("at least 0 for an integer base",)),
    ],
)
def test_mistakes(line: str, said: tuple[str, ...]) -> None:
    with pytest.raises(AttnError) as raised:
        bound(line, heads=5)
    assert all(each in str(raised.value) for each in said), raised.value


def test_an_entry_that_one_head_lacks() -> None:
    with pytest.raises(AttnError) as raised:
        bound("backward(sizes[head + 1])", first_head=2, local_heads=2)
    said = str(raised.value)
    assert "outside for head 3\n" in said + "\n" and "help" not in said


@pytest.mark.parametrize("line", ["backward(2 ** (key_head + 1))", "backward(sizes[key_head]) and key_heads == 2"])
def test_key_heads_are_constants_of_each_head(line: str) -> None:
    widths = (2, 4) if "**" in line else SIZES[:2]
    every = windows(*(width for width in widths for _ in range(2)))
    assert (dense(bound(line, key_heads=2)) == every).all()
    shard = bound(line, key_heads=2, first_head=2, local_heads=2)
    assert (dense(shard) == every[2:]).all()


def test_a_pattern_that_reads_key_heads_is_for_so_many() -> None:
    """Bound without a number, for as many as query heads; other patterns take any number."""
    q, k = torch.randn(1, 4, 40, 8), torch.randn(1, 2, 40, 8)
    pattern = maskdsl.parse("pattern p(n = 40) { space tokens[n]  attend backward(key_head + key_heads) }")["p"]
    for attention in (pattern.bind(heads=4).compile(), pattern.compile(heads=4)):
        assert attention(q, q, q).shape == q.shape
        with pytest.raises(AttnError, match="E490"):
            attention(q, k, k)
    assert pattern.compile(heads=4, key_heads=2)(q, k, k).shape == q.shape
    assert bound("causal").compile()(q, k, k).shape == q.shape


def test_as_many_key_heads_as_heads_make_one_mask() -> None:
    """Given or not: tables of routes have a dimension of key heads in both."""
    pattern = maskdsl.load(maskdsl.examples()["routing/infllm"])["nosa"]
    masks = [pattern.bind(heads=4, **options).ir for options in ({}, {"key_heads": 4})]
    assert masks[0] == masks[1]


def test_stacks_read_key_heads() -> None:
    text = """pattern p(n = 40, size = 3) { space tokens[n]  attend backward(size) }
    stack layers(n = 40) = key_heads * p(n, key_heads)"""
    stack = maskdsl.parse(text).stack("layers")
    assert len(stack.bind(heads=4).ir.index) == 4
    bound = stack.bind(heads=4, key_heads=2)
    assert (len(bound.ir.index), bound.ir.different[0].whole) == (2, Heads(4, 2))
    assert stack.bind(heads=4).ir.different[0].whole == Heads(4, 4)
