# hole: above
"""The block map found on the device, where inputs decide it: the skeleton that follows the two passes in a module."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.forward import Tiles
from maskdsl.codegen.program_order import in_order

# end
# Interval arithmetic classifies each tile, from the minimum and maximum of every coordinate in its two blocks and from
# prefix counts of boolean tables. Conservative: no tile that attends is missed and full tiles are full, but a partial
# one may be empty or full. Nothing is copied to the host.

MOST_RUNS = 64
"""Runs of full tiles, and of partial ones, that a row may have on average. Where rows have more, each is limited to
this number: from its first run too many on, the rest of the row is a single run of partial tiles."""
CHUNK = 256
"""Tiles of a row that are classified at once."""
ROWS = 4096
"""Rows whose ranges are computed at once."""
TILES_NUMBERS = ["room", "heads", "rows", "columns", "whole_columns", "query_length", "key_length"]
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
    room,
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

    Every row has the same `room`; if that is negative, `full_rows` and `partial_rows` hold the range of each on entry.
    On return a range's end is that of the last run, and the number of tiles is behind it. One entry of the partial
    range is reserved for the run that replaces the rest of a row with too many.
    """
    row = tl.program_id(0) % rows
    head_class = tl.program_id(0) // rows
    head, batch = head_class % heads, head_class // heads
    full_rows += 3 * tl.program_id(0).to(tl.int64)
    partial_rows += 3 * tl.program_id(0).to(tl.int64)
    if room >= 0:
        first_full, first_partial = tl.program_id(0) * room, tl.program_id(0) * (room + 1)
        most_full, most_partial = room, room
        tl.store(full_rows, first_full)
        tl.store(partial_rows, first_partial)
    else:
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


@triton.jit(do_not_specialize=["count", "most_runs"])
def ranges_kernel(full_rows, partial_rows, counts, count, most_runs, ROWS: tl.constexpr):
    """Writes the range [first, end) of each row into one of the lists, from `counts`; those of partial runs have one
    entry more.

    Where runs are more than `most_runs` on average, no row has room for more than so many.
    """
    ranges = full_rows
    if tl.program_id(0) == 1:
        ranges = partial_rows
    counts += tl.program_id(0) * count.to(tl.int64)
    total = (tl.program_id(0) * 0).to(tl.int64)
    for chunk in range(tl.cdiv(count, ROWS)):
        row = chunk * ROWS + tl.arange(0, ROWS)
        total += tl.sum(tl.load(counts + row, mask=row < count, other=0).to(tl.int64), 0)
    most = tl.where(total > count.to(tl.int64) * most_runs, most_runs, 2147483647)
    first = tl.program_id(0) * 0
    for chunk in range(tl.cdiv(count, ROWS)):
        row = chunk * ROWS + tl.arange(0, ROWS)
        size = tl.minimum(tl.load(counts + row, mask=row < count, other=0), most) + tl.program_id(0)
        end = first + tl.cumsum(size, 0)
        tl.store(ranges + 3 * row.to(tl.int64), end - size, mask=row < count)
        tl.store(ranges + 3 * row.to(tl.int64) + 1, end, mask=row < count)
        first += tl.sum(size, 0)


def find_tiles(device, shape, bounds, block, by_row=True, processors=132):
    """The `Tiles` of `block`, a pair (queries, keys), by query block or, if not `by_row`, by key block.

    `shape` is (batch, heads, key heads, queries, keys); `bounds` are the `block_bounds` of that shape. `processors` is
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
    sizes = count, count * most_runs + 1, count, count * (most_runs + 1) + 1
    full_rows, full_runs, partial_rows, partial_runs = (
        torch.empty(size, 3, dtype=torch.int32, device=device) for size in sizes
    )
    have_room = 2 * most_runs >= columns  # for all runs that rows can have
    if not have_room:
        counts = torch.empty(2, count, dtype=torch.int32, device=device)
        count_kernel[(count,)](counts, *arguments, **options)
        ranges_kernel[(2,)](full_rows, partial_rows, counts, count, most_runs, ROWS=ROWS)
    tiles_kernel[(count,)](
        *(full_rows, full_runs, partial_rows, partial_runs, most_runs if have_room else -1, *arguments), **options
    )
    programs, full_rows, partial_rows = in_order(
        *(full_rows, partial_rows, batch, heads),
        *((*shape[:2], shape[1] if by_row else key_heads, rows), by_row, processors),
    )
    return Tiles(programs, full_rows, full_runs, partial_rows, partial_runs)
