"""Packed queries of several sequences over pages, as serving engines call it, against each sequence alone."""

from typing import NamedTuple

import numpy as np
import torch

from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.evaluate import attention
from maskdsl.runtime.compile import compile_mask
from tests.support.properties import Case, assert_close

MOST = 5
"""Queries of a sequence."""


class Tokens(NamedTuple):
    """Those of a sequence in a call."""

    start: int
    """The position of its first query."""
    count: int
    """Its queries."""
    keys: int


def sequences(mask: MaskIR, batch: int, random: np.random.Generator) -> tuple[list[Tokens], bool]:
    """Tokens of each batch entry, and whether the queries of all are their last tokens.

    Chunks of prompts, drafts and single tokens, in the middle of a text; queries anywhere before or behind the keys,
    or of all keys; sequences without keys, and without queries.
    """
    queries, most = mask.queries.length, mask.keys.given_length
    are_last = bool(mask.is_layer and random.integers(2))
    made = list[Tokens]()
    for kind in random.choice(
        ["last", "last", "none"] if are_last else ["last", "any", "all", "none", "no keys"], batch
    ):
        count = 0 if kind == "none" else int(random.integers(1, min(MOST, queries) + 1))
        keys = {"all": most, "no keys": 0}.get(kind, int(random.integers(1, most + 1)))
        count = min(count, keys) if are_last else count
        start = keys - count if kind == "last" else int(random.integers(queries - count + 1))
        made.append(Tokens(min(max(start, 0), queries - count), count, keys))
    return made, are_last


def check_ragged(case: Case, backend: str, seed: int, q, k, v) -> None:
    """Each sequence gets what it gets alone, from its keys one behind the other; with all keys, what the meaning says.

    What a sequence has not is NaN, or of another one: pages of nobody, the ends of last pages, and the pages that
    tables name behind the keys.
    """
    random = np.random.default_rng(seed)
    tokens, are_last = sequences(case.mask, case.batch, random)
    size = int(random.choice([1, 4, 16]))
    inputs = {name: torch.tensor(value) for name, value in case.inputs.items()}
    ends = np.cumsum([0, *(each.count for each in tokens)])
    rows = [
        torch.tensor(q[n, :, each.start : each.start + each.count]).transpose(0, 1) for n, each in enumerate(tokens)
    ]
    pages, table = in_pages([torch.tensor(x) for x in (k, v)], [each.keys for each in tokens], size, random)
    out, lse = compile_mask(case.mask, backend).varlen(
        torch.cat(rows),
        *pages,
        torch.tensor(ends),
        query_start=None if are_last else torch.tensor([each.start for each in tokens]),
        page_table=table,
        key_lengths=torch.tensor([each.keys for each in tokens]),
        return_lse=True,
        **inputs,
    )
    whole = attention(case.mask, q, k, v, case.inputs)
    for n, each in enumerate(tokens):
        if each.count:
            some, here = slice(each.start, each.start + each.count), slice(ends[n], ends[n + 1])
            expected, expected_lse = (x[n, ..., some, :] for x in (whole[0], whole[1][..., None]))
            if each.keys < case.mask.keys.given_length:
                expected, expected_lse = alone(case, n, each, q, k, v)
            assert_close(out[here].transpose(0, 1).numpy(), expected, f"{backend}: sequence {n}, {each}")
            assert_close(lse[..., here, None].numpy(), expected_lse, f"{backend}: log-sum-exp of {n}, {each}")


def alone(case: Case, number: int, tokens: Tokens, q, k, v) -> tuple[np.ndarray, np.ndarray]:
    """The output [heads, queries, dim] and the log-sum-exp [heads, queries, 1] of one sequence by the reference.

    It is called for all batch entries, since patterns may read their numbers, and inputs have values for each.
    """
    inputs = {name: torch.tensor(value) for name, value in case.inputs.items()}
    some = torch.tensor(q[:, :, tokens.start : tokens.start + tokens.count])
    keys, values = (torch.tensor(x[:, :, : tokens.keys]) for x in (k, v))
    results = compile_mask(case.mask, "reference")(
        some, keys, values, query_start=tokens.start, return_lse=True, **inputs
    )
    out, lse = (x[number].numpy() for x in results)
    return out, lse[..., None]


def in_pages(
    tensors, keys: list[int], size: int, random: np.random.Generator
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Keys and values [batch, heads, keys, dim] in pages in any order, and the table; all other memory is NaN.

    `keys` are how many each batch entry has. Behind its pages the table names any others, and pages of nobody.
    """
    needed = [-(-each // size) for each in keys]
    numbers = random.permutation(sum(needed) + 2)
    table = random.choice(numbers, (len(keys), -(-tensors[0].shape[2] // size) + 1))
    for n, (first, count) in enumerate(zip(np.cumsum([0, *needed]), needed, strict=False)):
        table[n, :count] = numbers[first : first + count]
    stored = []
    for x in tensors:
        pages = torch.full((len(numbers), x.shape[1], size, x.shape[3]), torch.nan, dtype=x.dtype)
        for n, count in enumerate(keys):
            for page, some in zip(table[n], x[n, :, :count].split(size, dim=1) if count else (), strict=False):
                pages[page, :, : some.shape[1]] = some
        stored.append(pages)
    return stored, torch.tensor(table)
