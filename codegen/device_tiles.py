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
ROWS = 4096
"""Rows whose ranges are computed at once."""
ORDERED = 32
"""Programs that are ordered at once."""
COMPARED = 128
"""Programs with which these are compared at once."""
TILES_NUMBERS = ["room", "heads", "rows", "columns", "whole_columns", "query_length", "key_length"]
# hole: tiles_numbers
# end


# hole: extremes
EXTREMES_NUMBERS = ["classes", "heads", "tokens"]
EXTREMES_NUMBERS += [
    f"{tensor}_{axis}_stride" for tensor in ("value", "position") for axis in ("batch", "head", "token")
]


@triton.jit(do_not_specialize=EXTREMES_NUMBERS)
def extremes_kernel(
    lows,
    highs,
    other_lows,
    other_highs,
    values,
    positions,
    value_batch_stride,
    value_head_stride,
    value_token_stride,
    position_batch_stride,
    position_head_stride,
    position_token_stride,
    classes,
    heads,
    tokens,
    BLOCK: tl.constexpr,
    OTHER_BLOCK: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Minimum and maximum of the values of one block of tokens; `positions` are None, or lay the tokens out.

    Behind the blocks of BLOCK tokens of all `classes` come those of OTHER_BLOCK, if any.
    """
    number, size = tl.program_id(0), tl.program_id(0) * 0 + BLOCK
    count = classes * tl.cdiv(tokens, BLOCK)
    if number >= count:
        number -= count
        size += OTHER_BLOCK - BLOCK
        lows, highs = other_lows, other_highs
    blocks = tl.cdiv(tokens, size)
    block, wide = number % blocks, (number // blocks).to(tl.int64)
    batch, head = wide // heads, wide % heads
    token = tl.minimum(block * size + tl.minimum(tl.arange(0, PADDED), size - 1), tokens - 1).to(tl.int64)
    if positions is not None:
        token = tl.load(
            positions + batch * position_batch_stride + head * position_head_stride + token * position_token_stride
        )
    value = tl.load(values + batch * value_batch_stride + head * value_head_stride + token * value_token_stride)
    least = value.to(lows.dtype.element_ty)
    greatest = least
    if least.dtype.is_floating():
        least = tl.where(value == value, least, float("-inf"))
        greatest = tl.where(value == value, greatest, float("inf"))
    tl.store(lows + number, tl.min(least, 0))
    tl.store(highs + number, tl.max(greatest, 0))


def extremes(values, positions, batch, heads, dtype, *sizes):
    """Minimum and maximum of a per-token table in each block, both [batch, heads, blocks]. NaN gives -inf and inf.

    There are two for each of the one or two `sizes` of blocks. `values` and `positions` are those of `token_table`.
    """
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    tokens = values.shape[2] if positions is None else positions.shape[2]
    values = (values.view(torch.uint8) if values.dtype == torch.bool else values).expand(batch, heads, -1)
    positions = None if positions is None else positions.expand(batch, heads, -1)
    counts = [-(-tokens // size) for size in sizes]
    ends = [torch.empty(batch, heads, count, dtype=dtype, device=values.device) for count in counts for _ in range(2)]
    strides = *values.stride(), *((0, 0, 0) if positions is None else positions.stride())
    extremes_kernel[(batch * heads * sum(counts),)](
        *(*ends[:2], *ends[-2:], values, positions, *strides, batch * heads, heads, tokens),
        BLOCK=sizes[0],
        OTHER_BLOCK=sizes[-1],
        PADDED=triton.next_power_of_2(max(sizes)),
    )
    return ends


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


ORDER_NUMBERS = ["count", "lists", "batch", "heads", "rows", "program_heads", "members", "processors"]


@triton.jit
def program_of(number, rows, program_heads, BY_ROW: tl.constexpr):
    """Batch entry, head and row of programs; those by row go from the last row to the first."""
    row = number % rows
    if BY_ROW:
        row = rows - 1 - row
    return number // rows // program_heads, number // rows % program_heads, row


@triton.jit
def list_of(entry, head, row, member, batch, heads, rows, members):
    """The number of the list of one of the query heads that share keys; a class of heads or entries may be for all."""
    return (entry % batch * heads + (head * members + member) % heads) * rows + row


@triton.jit
def level_of(
    number,
    grain,
    full_rows,
    partial_rows,
    count,
    batch,
    heads,
    rows,
    program_heads,
    members,
    BY_ROW: tl.constexpr,
    PROGRAM: tl.constexpr,
):
    """The work of programs, in whole grains."""
    entry, head, row = program_of(number, rows, program_heads, BY_ROW)
    work = tl.zeros_like(number) + PROGRAM
    for member in range(members):
        size = 3 * list_of(entry, head, row, member, batch, heads, rows, members).to(tl.int64) + 2
        work += tl.load(full_rows + size, mask=number < count, other=0)
        work += tl.load(partial_rows + size, mask=number < count, other=0)
    return tl.where(number < count, work // grain, 0).to(tl.int32)


@triton.jit(do_not_specialize=ORDER_NUMBERS)
def order_kernel(
    programs,
    full_ordered,
    partial_ordered,
    full_rows,
    partial_rows,
    count,
    lists,
    batch,
    heads,
    rows,
    program_heads,
    members,
    processors,
    BY_ROW: tl.constexpr,
    ROWS: tl.constexpr,
    ORDERED: tl.constexpr,
    COMPARED: tl.constexpr,
    PROGRAM: tl.constexpr,
    GRAIN: tl.constexpr,
):
    """Writes the `count` programs, heavy ones first, and the rows of their lists; of like work they keep their order.

    Fewer than 2 * processors * GRAIN programs have a level above 0. Each of these counts those ahead of it, and each
    other program moves back by as many as are behind it, which are compared ORDERED by COMPARED.
    """
    total = (tl.program_id(0) * 0).to(tl.int64)
    most = tl.program_id(0) * 0
    for chunk in range(tl.cdiv(lists, ROWS)):
        row = chunk * ROWS + tl.arange(0, ROWS)
        size = 3 * row.to(tl.int64) + 2
        tiles = tl.load(full_rows + size, mask=row < lists, other=0)
        tiles += tl.load(partial_rows + size, mask=row < lists, other=0)
        total += tl.sum(tiles.to(tl.int64), 0)
        most = tl.maximum(most, tl.max(tiles, 0))
    wide = count.to(tl.int64)
    grain = tl.maximum((total * (wide * members // lists) + wide * PROGRAM) // (processors * GRAIN), 1)
    for block in range(tl.program_id(0), tl.cdiv(count, ORDERED), tl.num_programs(0)):
        number = block * ORDERED + tl.arange(0, ORDERED)
        position = number
        shared = (grain, full_rows, partial_rows, count, batch, heads, rows, program_heads, members)
        if most.to(tl.int64) * members + PROGRAM >= grain:
            level = level_of(number, *shared, BY_ROW, PROGRAM)
            position = tl.where(level > 0, 0, number)
            for chunk in range(tl.cdiv(count, COMPARED)):
                other = chunk * COMPARED + tl.arange(0, COMPARED)
                other_level = level_of(other, *shared, BY_ROW, PROGRAM)
                if tl.max(other_level, 0) > 0:
                    is_behind = other[None, :] > number[:, None]
                    is_ahead = other_level[None, :] > level[:, None]
                    is_ahead |= (other_level[None, :] == level[:, None]) & (other[None, :] < number[:, None])
                    counted = tl.where(level[:, None] > 0, is_ahead, is_behind) & (other_level[None, :] > 0)
                    position += tl.sum(counted.to(tl.int32), 1)
        exists = number < count
        entry, head, row = program_of(number, rows, program_heads, BY_ROW)
        program = programs + 3 * position.to(tl.int64)
        tl.store(program, entry, mask=exists)
        tl.store(program + 1, head, mask=exists)
        tl.store(program + 2, row, mask=exists)
        for member in range(members):
            source = 3 * list_of(entry, head, row, member, batch, heads, rows, members).to(tl.int64)
            target = 3 * (position.to(tl.int64) * members + member)
            for field in tl.static_range(3):
                full = tl.load(full_rows + source + field, mask=exists)
                partial = tl.load(partial_rows + source + field, mask=exists)
                tl.store(full_ordered + target + field, full, mask=exists)
                tl.store(partial_ordered + target + field, partial, mask=exists)


def in_order(full_rows, partial_rows, batch, heads, shape, by_row, processors):
    """The `programs` of `Tiles`, heavy ones first, and the rows of their lists: of full tiles, and of partial ones.

    `full_rows` and `partial_rows` are those of `batch` entries and `heads`, each 1 if one serves all. `shape` is
    (batch, heads, heads of programs, rows).
    """
    entries, all_heads, program_heads, rows = shape
    count = entries * program_heads * rows
    sizes = count, entries * all_heads * rows, entries * all_heads * rows
    programs, full_ordered, partial_ordered = (
        torch.empty(size, 3, dtype=torch.int32, device=full_rows.device) for size in sizes
    )
    order_kernel[(min(4 * processors, -(-count // ORDERED)),)](
        *(programs, full_ordered, partial_ordered, full_rows, partial_rows, count, len(full_rows), batch, heads, rows),
        *(program_heads, all_heads // program_heads, processors),
        BY_ROW=by_row,
        ROWS=ROWS,
        ORDERED=ORDERED,
        COMPARED=COMPARED,
        PROGRAM=PROGRAM,
        GRAIN=GRAIN,
    )
    return programs, full_ordered, partial_ordered


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
