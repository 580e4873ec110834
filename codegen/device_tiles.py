# hole: above
"""The block map found on the device, where inputs decide it: the skeleton that follows the two passes in a module."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.forward import Tiles

# end
# Interval arithmetic classifies each tile, from the minimum and maximum of every coordinate in its two blocks and from
# prefix counts of boolean tables. Conservative: no tile that attends is missed and full tiles are full, but a partial
# one may be empty or full. Nothing is copied to the host.

MOST_RUNS = 64
"""Runs of full tiles, and of partial ones, that a row may have on average. Where rows have more, each is limited to
this number: from its first run too many on, the rest of the row is a single run of partial tiles."""
CHUNK = 256
"""Tiles of a row that are classified at once."""
PROGRAM = 2
"""The work of a program beside its tiles: as much as so many tiles."""
GRAIN = 8
"""Programs of less than this fraction of a processor's share of the work need no order: they fill what is left."""
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
    """Which tiles (row, column) are full, and which are partial: two blocks of booleans shaped as `column`.

    BY_ROW says that rows are query blocks and columns key blocks; else the reverse.
    """
    exists = (column >= 0) & (column < columns)
    column_block = tl.where(exists, column, 0)[None, :]
    row_block = tl.zeros_like(column_block) + row
    query_block = row_block if BY_ROW else column_block
    key_block = column_block if BY_ROW else row_block
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
    """Counts the runs of one row of one head class: `counts` is [2, head classes * rows], of full and partial tiles."""
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
    full_runs,
    partial_rows,
    partial_runs,
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
    """Writes the runs of one row of one head class into the row's range of the lists, CHUNK tiles at a time.

    On entry `full_rows` and `partial_rows` hold the range of each row; on return its end is that of the last run, and
    the number of tiles is behind it. One entry of the partial range is reserved for the run that replaces the rest of a
    row with too many.
    """
    row = tl.program_id(0) % rows
    head_class = tl.program_id(0) // rows
    head, batch = head_class % heads, head_class // heads
    full_rows += 3 * tl.program_id(0).to(tl.int64)
    partial_rows += 3 * tl.program_id(0).to(tl.int64)
    first_full, first_partial = tl.load(full_rows), tl.load(partial_rows)
    most_full = tl.load(full_rows + 1) - first_full
    most_partial = tl.load(partial_rows + 1) - first_partial - 1
    full_runs += 3 * first_full.to(tl.int64)
    partial_runs += 3 * first_partial.to(tl.int64)
    full_count = tl.program_id(0) * 0
    partial_count = tl.program_id(0) * 0
    full_tiles = tl.program_id(0) * 0
    partial_tiles = tl.program_id(0) * 0
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
        full_run, partial_run = full_runs + 3 * full_number, partial_runs + 3 * partial_number
        tl.store(full_run, column, mask=begins_full & listed)
        tl.store(partial_run, column, mask=begins_partial & listed)
        tl.store(full_run + 2, 1, mask=begins_full & listed)
        tl.store(partial_run + 2, 1, mask=begins_partial & listed)
        ended = column <= limit
        tl.store(full_run + 1, column, mask=full_before & ~full & ended)
        tl.store(partial_run + 1, column, mask=partial_before & ~partial & ended)
        full_count += tl.sum((begins_full & listed).to(tl.int32), 0)
        partial_count += tl.sum((begins_partial & listed).to(tl.int32), 0)
        full_tiles += tl.sum((full & listed).to(tl.int32), 0)
        partial_tiles += tl.sum((partial & listed).to(tl.int32), 0)
        last = tl.maximum(last, tl.max(tl.where(full | partial, column + 1, 0), 0))
    if limit < columns:
        tl.store(partial_runs + 3 * partial_count, limit)
        tl.store(partial_runs + 3 * partial_count + 1, last)
        tl.store(partial_runs + 3 * partial_count + 2, 1)
        partial_count += 1
        partial_tiles += last - limit
    tl.store(full_rows + 1, first_full + full_count)
    tl.store(full_rows + 2, full_tiles)
    tl.store(partial_rows + 1, first_partial + partial_count)
    tl.store(partial_rows + 2, partial_tiles)


def run_ranges(counts, most_runs):
    """The range [first, end) of each row in both lists, and 0: int32 [2, rows, 3], from `counts` of runs, [2, rows]."""
    limited = counts.sum(1, keepdim=True) > counts.shape[1] * most_runs
    sizes = torch.where(limited, counts.clamp(max=most_runs), counts)
    sizes[1] += 1
    ends = sizes.cumsum(1, dtype=torch.int32)
    return torch.stack([ends - sizes, ends, torch.zeros_like(ends)], dim=-1)


def in_order(lists, tiles, rows, falls, processors):
    """The `programs` of `Tiles`, heavy ones first, and their lists, int64 [programs * query heads that share keys].

    `lists`, [batch, heads, query heads that share keys, rows], number those of `tiles`, the tiles of each list. Of like
    work programs keep their order; `falls` says that it is from the last row to the first.
    """
    heads, lists = lists.shape[1], (lists.flip(3) if falls else lists).transpose(2, 3).flatten(0, 2)
    work = tiles[lists].sum(1) + PROGRAM
    grain = (work.sum() // (processors * GRAIN)).clamp(min=1)
    order = torch.argsort(work // grain, descending=True, stable=True)
    row = rows - 1 - order % rows if falls else order % rows
    programs = torch.stack([order // rows // heads, order // rows % heads, row], dim=1)
    return programs.to(torch.int32), lists[order].flatten()


def find_tiles(device, shape, inputs, block, layout=(None, None), by_row=True, processors=132):
    """The `Tiles` of `block`, a pair (queries, keys), by query block or, if not `by_row`, by key block.

    `shape` is (batch, heads, key heads, queries, keys); `inputs` and `layout` are those of `attention`. `processors` is
    how many programs run at once, about.
    """
    batch, heads, key_heads, query_length, key_length = shape
    # hole: tiles_prepare
    # end
    query_blocks, key_blocks = -(-query_length // block[0]), -(-key_length // block[1])
    rows, columns = (query_blocks, key_blocks) if by_row else (key_blocks, query_blocks)
    # A last key block that is shorter than the others must be masked, so it is never full; query blocks need no mask.
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
    full_rows, partial_rows = run_ranges(counts, most_runs)
    partial_rows = partial_rows.clone()  # aligned to 16 bytes: an unaligned pointer would be another specialization
    sizes = count * most_runs + 1, count * (most_runs + 1) + 1
    full_runs, partial_runs = (torch.empty(size, 3, dtype=torch.int32, device=device) for size in sizes)
    tiles_kernel[(count,)](full_rows, full_runs, partial_rows, partial_runs, *arguments, **options)
    lists = torch.arange(count, device=device).view(batch, heads, rows).expand(*shape[:2], rows)
    lists = lists.unflatten(1, (shape[1], 1) if by_row else (key_heads, -1))
    programs, ordered = in_order(lists, full_rows[:, 2] + partial_rows[:, 2], rows, by_row, processors)
    return Tiles(programs, full_rows[ordered], full_runs, partial_rows[ordered], partial_runs)
