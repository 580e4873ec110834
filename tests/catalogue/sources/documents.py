"""Several texts, images, answers or drafts in one sequence."""

from itertools import groupby

import numpy as np
import torch
from transformers import masking_utils

import maskdsl
from tests.catalogue.compared import Attends
from tests.catalogue.library import pairs

LENGTHS = [5, 1, 9, 7, 4]
"""Of documents."""
N = sum(LENGTHS)
DOCUMENT = np.repeat(np.arange(len(LENGTHS)), LENGTHS)


def packed(heads: int, n: int, document: np.ndarray) -> np.ndarray:
    """Library: transformers, packed_sequence_mask_function."""
    same = masking_utils.packed_sequence_mask_function(torch.from_numpy(document)[None])
    return pairs(masking_utils.and_masks(masking_utils.causal_mask_function, same), n)


def packed_full(heads: int, n: int, document: np.ndarray) -> np.ndarray:
    """Library: transformers, packed_sequence_mask_function."""
    return pairs(masking_utils.packed_sequence_mask_function(torch.from_numpy(document)[None]), n)


def padded(heads: int, n: int, length: np.ndarray) -> np.ndarray:
    """Library: transformers, padding_mask_function."""
    real = masking_utils.padding_mask_function(torch.arange(n) < torch.from_numpy(length)[:, None])
    return pairs(masking_utils.and_masks(masking_utils.causal_mask_function, real), n)


def transfusion(heads: int, n: int, image: np.ndarray) -> np.ndarray:
    """Library: transformers, blockwise_overlay."""
    together = masking_utils.blockwise_overlay(torch.from_numpy(image)[None])
    return pairs(masking_utils.or_masks(masking_utils.causal_mask_function, together), n)


def block_diffusion(heads: int, n: int, block: int) -> np.ndarray:
    """Released code: kuleshov-group/bd3lms, models/dit.py, 1c3e8f4."""
    position = np.arange(2 * n)
    clean, number = position >= n, np.where(position >= n, position - n, position) // block
    query, key = number[:, None], number
    own = (query == key) & (clean[:, None] == clean)
    past = (query > key) & clean & ~clean[:, None]
    among_clean = (query >= key) & clean & clean[:, None]
    return own | past | among_clean


def block_rank(heads: int, instruction: int, documents: int, length: int, query: int) -> np.ndarray:
    """Released code: nilesh2797/BlockRank, src/blockrank/blockrank_std_attention.py, c6ddbf9.

    Blocks of one length, the shorter ones padded: the instruction, each document, the query.
    """
    lengths = [instruction, *[length] * documents, query]
    longest, last = max(lengths), len(lengths) - 1
    block, place = np.divmod(np.arange(len(lengths) * longest), longest)
    q, k, causal = block[:, None], block, place[:, None] >= place
    same = (q == k) & causal
    first = (q == 0) & same
    middle = (q != 0) & (q != last) & (((k == 0) & (q != k)) | same)
    end = (q == last) & (same | ((q != k) & (k < q)))
    real = place < np.array(lengths)[block]
    return (first | middle | end)[np.ix_(real, real)]


# The masks of MagiAttention are lists of ranges of queries and keys, each of them full (0) or causal (1)


def of_ranges(n: int, ranges: list[tuple[range, range, int]]) -> np.ndarray:
    """Causal ranges end together: the last query sees the last key."""
    attends = np.zeros((n, n), bool)
    for queries, keys, kind in ranges:
        allowed = np.ones((len(queries), len(keys)), bool)
        attends[np.ix_(queries, keys)] |= np.tril(allowed, len(keys) - len(queries)) if kind else allowed
    return attends


def borders(lengths: list[int]) -> list[tuple[int, int]]:
    ends = np.cumsum(lengths).tolist()
    return list(zip([0, *ends], ends, strict=False))


def runs(numbers: np.ndarray) -> list[int]:
    """How often each number stands there in a row."""
    return [len(list(same)) for _, same in groupby(numbers.tolist())]


def prefix_lm(heads: int, n: int, prefix: int) -> np.ndarray:
    """Released code: SandAI-org/MagiAttention, exps/dist_attn/benchmark/mask.py, 2c64135."""
    if prefix >= n:
        return of_ranges(n, [(range(n), range(n), 0)])
    return of_ranges(n, [(range(prefix), range(prefix), 0), (range(prefix, n), range(n), 1)])


def prefix_packed(heads: int, n: int, document: np.ndarray, prefix_end: np.ndarray) -> np.ndarray:
    """Released code: SandAI-org/MagiAttention, exps/dist_attn/benchmark/mask.py, 2c64135."""
    ranges = []
    for start, end in borders(runs(document)):
        behind = int(prefix_end[start])
        if behind < end:
            ranges += [(range(start, behind), range(start, behind), 0), (range(behind, end), range(start, end), 1)]
        else:
            ranges.append((range(start, end), range(start, end), 0))
    return of_ranges(n, ranges)


def question_ranges(lengths: list[int]) -> list[tuple[range, range, int]]:
    """A question, and the answers to it: the first answer is the question's end, the others come behind."""
    total, (_, question), *answers = sum(lengths), *borders(lengths)
    ranges = [(range(question), range(question), 1)]
    for number, (start, end) in enumerate(answers):
        if number == 0:
            ranges[0] = (range(end), range(end), 1)
            if len(answers) > 1:
                ranges.append((range(end, total), range(question), 0))
        else:
            ranges.append((range(start, end), range(start, end), 1))
    return ranges


def shared_question(heads: int, question: int, answers: int, length: int) -> np.ndarray:
    """Released code: SandAI-org/MagiAttention, exps/dist_attn/benchmark/mask.py, 2c64135."""
    lengths = [question, *[length] * answers]
    return of_ranges(sum(lengths), question_ranges(lengths))


def shared_question_packed(heads: int, n: int, document: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Released code: SandAI-org/MagiAttention, exps/dist_attn/benchmark/mask.py, 2c64135."""
    attends = np.zeros((n, n), bool)
    for start, end in borders(runs(document)):
        attends[start:end, start:end] = of_ranges(end - start, question_ranges(runs(answer[start:end])))
    return attends


def causal_blockwise(heads: int, n: int, document: np.ndarray, final: np.ndarray) -> np.ndarray:
    """Released code: SandAI-org/MagiAttention, exps/dist_attn/benchmark/mask.py, 2c64135."""
    ranges = [(range(start, end), range(start, end), 1) for start, end in borders(runs(document))]
    queries, *_ = ranges[-1]
    return of_ranges(n, [*ranges[:-1], (queries, range(n), 1)])


def block_causal_document(heads: int, n: int, block: int, document: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Released code: SandAI-org/MagiAttention, exps/dist_attn/benchmark/mask.py, 2c64135."""
    ranges = []
    for begin, end in borders(runs(document)):
        length = end - begin
        for number in range((length + block - 1) // block):
            last = min((number + 1) * block, length) + begin
            ranges.append((range(number * block + begin, last), range(begin, last), 0))
    return of_ranges(n, ranges)


# Trees of drafts

CHOICES = [[0], [0, 0], [1], [0, 1], [0, 0, 0], [1, 0], [0, 0, 0, 1], [1, 0, 2]]
"""Paths of the drafts behind a root."""


def draft_parents() -> list[int]:
    """Of the root and of each choice, in the order of Medusa: by length, then by value."""
    ordered = sorted(CHOICES, key=lambda path: (len(path), path))
    return [-1, *(ordered.index(path[:-1]) + 1 if len(path) > 1 else 0 for path in ordered)]


def tree(heads: int, prefix: int, drafts: int, **_: np.ndarray) -> np.ndarray:
    """Released code: FasterDecoding/Medusa, medusa/model/utils.py, 10a2697."""
    ordered = sorted(CHOICES, key=lambda path: (len(path), path))
    assert drafts == len(ordered) + 1
    among = np.eye(drafts, dtype=bool)
    among[:, 0] = True
    for number, path in enumerate(ordered):
        for length in range(1, len(path)):
            among[number + 1, ordered.index(path[:length]) + 1] = True
    return np.concatenate([np.ones((drafts, prefix), bool), among], axis=1)


ENTER, LEAVE = (numbers.numpy() for numbers in maskdsl.inputs.tree(draft_parents()))
IMAGE = np.array([-1, -1, 0, 0, 0, -1, 1, 1, 2, 2, 2, -1, -1, 2, 2, -1])
ANSWER = np.array([0, 0, 1, 1, 2, 0, *[0] * 4, *[1] * 2, *[2] * 3, *[0] * 7, *[0] * 1, *[1] * 2, 2])
STARTS = np.repeat(np.cumsum([0, *LENGTHS[:-1]]), LENGTHS)
FILLED = {"instruction": 5, "documents": 3, "length": 7, "query": 4}
ROWS = [
    Attends("language/packed", "packed", {"n": N}, packed, inputs={"document": DOCUMENT}),
    Attends("language/packed", "packed_full", {"n": N}, packed_full, inputs={"document": DOCUMENT}),
    Attends("language/padded", "padded", {"n": 11}, padded, inputs={"length": np.array([7])}),
    Attends("language/transfusion", "transfusion", {"n": 16}, transfusion, inputs={"image": IMAGE}),
    Attends("language/block_diffusion", "block_diffusion", {"n": 23, "block": 4}, block_diffusion),
    Attends("language/block_diffusion", "block_diffusion", {"n": 9, "block": 1}, block_diffusion),
    Attends("language/block_rank", "block_rank", FILLED, block_rank),
    Attends("language/block_rank", "block_rank", FILLED | {"instruction": 8, "query": 1}, block_rank),
    Attends("language/prefix_lm", "prefix_lm", {"n": 31, "prefix": 11}, prefix_lm),
    Attends("language/prefix_lm", "prefix_lm", {"n": 7, "prefix": 9}, prefix_lm),
    Attends(
        *("language/prefix_lm", "prefix_packed", {"n": N}, prefix_packed),
        inputs={"document": DOCUMENT, "prefix_end": STARTS + 3},
    ),
    Attends("language/shared_question", "shared_question", {"question": 6, "answers": 3, "length": 5}, shared_question),
    Attends("language/shared_question", "shared_question", {"question": 3, "answers": 1, "length": 2}, shared_question),
    Attends(
        *("language/shared_question", "shared_question_packed", {"n": N}, shared_question_packed),
        inputs={"document": DOCUMENT, "answer": ANSWER},
    ),
    Attends(
        *("language/causal_blockwise", "causal_blockwise", {"n": N}, causal_blockwise),
        inputs={"document": DOCUMENT, "final": np.equal(DOCUMENT, len(LENGTHS) - 1)},
    ),
    Attends(
        *("language/block_causal_document", "block_causal_document", {"n": N, "block": 3}, block_causal_document),
        inputs={"document": DOCUMENT, "start": STARTS},
    ),
    Attends("language/tree", "tree", {"prefix": 5, "drafts": 9}, tree, inputs={"enter": ENTER, "leave": LEAVE}),
]
