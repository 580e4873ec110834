# hole: above
"""Tiles found on the device where inputs decide them: a skeleton that stands behind those of the two passes."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.forward import Tiles

# end
# Tiles follow from the least and the greatest value of every coordinate in a block of tokens, and from how many entries
# of boolean tables are true between these. No tile is missed, and full ones are full; some that are called partial may
# be empty or full. Nothing is copied to the host.

MOST_RUNS = 64
"""Of one kind in a row, on average. If there are more, a row has no more than that: from the first that is one too many
on, all its tiles are one run of partial ones."""
CHUNK = 256
"""Tiles of a row that are looked at together."""
TILES_NUMBERS = ["heads", "rows", "columns", "whole_columns", "query_length", "key_length"]
# hole: tiles_numbers
# end


@triton.jit
def judge(
    row,
    column,
    columns,
    whole_columns,
    head_class,
    head,
    batch,
    query_length,
    key_length,
    # hole: judge_parameters
    # end
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    BY_ROW: tl.constexpr,
):
    """Whether tiles are full, and whether they are partial: two blocks of booleans like `column`."""
    exists = (column >= 0) & (column < columns)
    other = tl.where(exists, column, 0)[None, :]
    own = tl.zeros_like(other) + row
    query_block = own if BY_ROW else other
    key_block = other if BY_ROW else own
    first_query, first_key = query_block * QUERY_BLOCK, key_block * KEY_BLOCK
    certain = first_query < query_length
    possible = first_key < key_length
    # hole: verdict
    # end
    full = exists & (column < whole_columns) & tl.reshape(certain, column.shape)
    return full, exists & tl.reshape(possible, column.shape) & ~full


@triton.jit(do_not_specialize=TILES_NUMBERS)
def count_kernel(
    counts,
    heads,
    rows,
    columns,
    whole_columns,
    query_length,
    key_length,
    # hole: tiles_parameters
    # end
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    BY_ROW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """How many runs of full tiles, then of partial ones, each row of each head class has."""
    row = tl.program_id(0) % rows
    head_class = tl.program_id(0) // rows
    head, batch = head_class % heads, head_class // heads
    full_count = tl.program_id(0) * 0
    partial_count = tl.program_id(0) * 0
    # hole: shared
    shared = (columns, whole_columns, head_class, head, batch, query_length, key_length)
    # end
    for chunk in range(tl.cdiv(columns, CHUNK)):
        column = chunk * CHUNK + tl.arange(0, CHUNK)
        full, partial = judge(row, column, *shared, QUERY_BLOCK, KEY_BLOCK, BY_ROW)
        full_before, partial_before = judge(row, column - 1, *shared, QUERY_BLOCK, KEY_BLOCK, BY_ROW)
        full_count += tl.sum((full & ~full_before).to(tl.int32), 0)
        partial_count += tl.sum((partial & ~partial_before).to(tl.int32), 0)
    tl.store(counts + tl.program_id(0), full_count)
    tl.store(counts + tl.num_programs(0) + tl.program_id(0), partial_count)


@triton.jit(do_not_specialize=TILES_NUMBERS)
def tiles_kernel(
    full_rows,
    full_starts,
    full_ends,
    partial_rows,
    partial_starts,
    partial_ends,
    heads,
    rows,
    columns,
    whole_columns,
    query_length,
    key_length,
    # hole: tiles_parameters
    # end
    QUERY_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
    BY_ROW: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The runs of one row of one head class, CHUNK tiles at a time, into the room that the row has in the lists.

    A run begins where the tile before is not like it, and ends likewise. One place is left for a last run of partial
    tiles, in case that there are too many.
    """
    row = tl.program_id(0) % rows
    head_class = tl.program_id(0) // rows
    head, batch = head_class % heads, head_class // heads
    position = 2 * tl.program_id(0).to(tl.int64)
    first_full, first_partial = tl.load(full_rows + position), tl.load(partial_rows + position)
    most_full = tl.load(full_rows + position + 1) - first_full
    most_partial = tl.load(partial_rows + position + 1) - first_partial - 1
    full_count = tl.program_id(0) * 0
    partial_count = tl.program_id(0) * 0
    limit = columns
    last = tl.program_id(0) * 0
    # hole: shared
    shared = (columns, whole_columns, head_class, head, batch, query_length, key_length)
    # end
    for chunk in range(tl.cdiv(columns + 1, CHUNK)):
        column = chunk * CHUNK + tl.arange(0, CHUNK)
        full, partial = judge(row, column, *shared, QUERY_BLOCK, KEY_BLOCK, BY_ROW)
        full_before, partial_before = judge(row, column - 1, *shared, QUERY_BLOCK, KEY_BLOCK, BY_ROW)
        begins_full, begins_partial = full & ~full_before, partial & ~partial_before
        full_number = full_count + tl.cumsum(begins_full.to(tl.int32), 0) - 1
        partial_number = partial_count + tl.cumsum(begins_partial.to(tl.int32), 0) - 1
        over = (begins_full & (full_number >= most_full)) | (begins_partial & (partial_number >= most_partial))
        limit = tl.minimum(limit, tl.min(tl.where(over, column, columns), 0))
        listed = column < limit
        tl.store(full_starts + first_full + full_number, column, mask=begins_full & listed)
        tl.store(partial_starts + first_partial + partial_number, column, mask=begins_partial & listed)
        ended = column <= limit
        full_position, partial_position = first_full + full_number, first_partial + partial_number
        tl.store(full_ends + full_position, column, mask=full_before & ~full & ended)
        tl.store(partial_ends + partial_position, column, mask=partial_before & ~partial & ended)
        full_count += tl.sum((begins_full & listed).to(tl.int32), 0)
        partial_count += tl.sum((begins_partial & listed).to(tl.int32), 0)
        last = tl.maximum(last, tl.max(tl.where(full | partial, column + 1, 0), 0))
    if limit < columns:
        tl.store(partial_starts + first_partial + partial_count, limit)
        tl.store(partial_ends + first_partial + partial_count, last)
        partial_count += 1
    tl.store(full_rows + position + 1, first_full + full_count)
    tl.store(partial_rows + position + 1, first_partial + partial_count)


def rooms(counts, most_runs):
    """Where each row's room in a list begins and ends, [2, 2 * rows], from the `counts` of its runs, [2, rows]."""
    limited = counts.sum(1, keepdim=True) > counts.shape[1] * most_runs
    sizes = torch.where(limited, counts.clamp(max=most_runs), counts)
    sizes[1] += 1
    ends = sizes.cumsum(1, dtype=torch.int32)
    return torch.stack([ends - sizes, ends], dim=-1).flatten(1)


def find_tiles(device, shape, inputs, block, layout=(None, None), by_row=True):
    """The `Tiles` of blocks of `block` queries and keys, by blocks of queries or by blocks of keys.

    `shape` is (batch, heads, queries, keys); for the rest see `attention`.
    """
    batch, heads, query_length, key_length = shape
    # hole: tiles_prepare
    # end
    query_blocks, key_blocks = -(-query_length // block[0]), -(-key_length // block[1])
    rows, columns = (query_blocks, key_blocks) if by_row else (key_blocks, query_blocks)
    # A last block of keys that is not whole needs its bounds checked; of queries, none does.
    whole_columns = key_length // block[1] if by_row else query_blocks
    most_runs = MOST_RUNS
    # hole: most_runs
    # end
    most_runs = min(most_runs, -(-columns // 2))
    count = batch * heads * rows
    arguments = (
        heads,
        rows,
        columns,
        whole_columns,
        query_length,
        key_length,
        # hole: tiles_arguments
        # end
    )
    options = {"QUERY_BLOCK": block[0], "KEY_BLOCK": block[1], "BY_ROW": by_row, "CHUNK": CHUNK}
    counts = torch.empty(2, count, dtype=torch.int32, device=device)
    count_kernel[(count,)](counts, *arguments, **options)
    full_rows, partial_rows = rooms(counts, most_runs)
    partial_rows = partial_rows.clone()  # at a multiple of 16 bytes: kernels are compiled anew for one that is not
    sizes = most_runs, most_runs, most_runs + 1, most_runs + 1
    full_starts, full_ends, *partial = (torch.empty(count * size, dtype=torch.int32, device=device) for size in sizes)
    lists = full_rows, full_starts, full_ends, partial_rows, *partial
    tiles_kernel[(count,)](*lists, *arguments, **options)
    return Tiles(torch.arange(batch * heads, dtype=torch.int32, device=device).view(batch, heads), *lists)
