# hole: above
"""The order of programs whose tiles are found on the device: the skeleton behind `device_tiles.py`."""

import torch
import triton
import triton.language as tl

# end
# Programs start in their order as processors become free: a heavy one that starts late is computed alone at the end.

PROGRAM = 2
"""The work of a program beside its tiles: as much as so many tiles."""
GRAIN = 8
"""Programs of less than this fraction of a processor's share of the work need no order: they fill what is left."""
LISTS = 4096
"""Lists of tiles whose work is summed at once."""
ORDERED = 32
"""Programs that are ordered at once."""
COMPARED = 128
"""Programs with which these are compared at once."""
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
    LISTS: tl.constexpr,
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
    for chunk in range(tl.cdiv(lists, LISTS)):
        row = chunk * LISTS + tl.arange(0, LISTS)
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
        LISTS=LISTS,
        ORDERED=ORDERED,
        COMPARED=COMPARED,
        PROGRAM=PROGRAM,
        GRAIN=GRAIN,
    )
    return programs, full_ordered, partial_ordered
