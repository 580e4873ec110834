# hole: above
"""Which keys one query of each head attends, as bits, where tables of pairs say it: the skeleton behind `decode.py`."""

import torch
import triton
import triton.language as tl

from maskdsl.codegen.decode import NUMBERS

# end
# Tables are read here by one program a block, and not in the loop over blocks, in which copies of keys would wait.
#   pair_bits       of each head and block of keys, int64 [batch, heads, blocks]: bit n is set if its key n is attended
#   tile_bits       those of all rows of a tile, int64 [batch, key heads, tiles, blocks]
# Blocks behind the keys so far are not written, and not read.


@triton.jit(do_not_specialize=[*NUMBERS, "blocks"])
def pairs_kernel(
    pair_bits,
    tile_bits,
    query_starts,
    key_lengths,
    blocks,
    heads,
    heads_per_key_head,
    query_length,
    key_length,
    # hole: parameters
    # end
    ROW_BLOCK: tl.constexpr,
    KEY_BLOCK: tl.constexpr,
):
    """The bits of one tile of rows and one block of keys; pages are not looked at."""
    key_heads = heads // heads_per_key_head
    tiles = tl.cdiv(heads_per_key_head, ROW_BLOCK)
    block = tl.program_id(0) % blocks
    tile = tl.program_id(0) // blocks % tiles
    key_head = tl.program_id(0) // blocks // tiles % key_heads
    batch = tl.program_id(0) // blocks // tiles // key_heads
    wide_batch = batch.to(tl.int64)
    cached = tl.minimum(tl.load(key_lengths + batch), key_length)
    if block * KEY_BLOCK < cached:
        row = tile * ROW_BLOCK + tl.arange(0, ROW_BLOCK)
        row_head = key_head * heads_per_key_head + tl.minimum(row, heads_per_key_head - 1)
        wide_head = row_head.to(tl.int64)
        query = tl.zeros([1], tl.int32)
        start = tl.load(query_starts + batch)
        # hole: query_coordinates
        # end
        keys = block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)
        # hole: key_coordinates
        # end
        attends = ((start + query >= 0) & (start + query < query_length))[:, None] & (keys < cached)[None, :]
        # hole: predicate
        # end
        attends &= (row < heads_per_key_head)[:, None]
        number = tl.arange(0, KEY_BLOCK).to(tl.int64)
        of_rows = tl.sum(attends.to(tl.int64) << number[None, :], 1)
        of_tile = tl.sum(tl.max(attends.to(tl.int32), 0).to(tl.int64) << number, 0)
        tl.store(pair_bits + (wide_batch * heads + wide_head) * blocks + block, of_rows, mask=row < heads_per_key_head)
        tl.store(tile_bits + ((wide_batch * key_heads + key_head) * tiles + tile) * blocks + block, of_tile)


def attended_pairs(q, key_heads, query_starts, key_lengths, lengths, block, read):
    """`pair_bits` and `tile_bits` of one query of each head; `read` is the values of the pattern's parameters."""
    batch, heads = q.shape[:2]
    query_length, key_length = lengths
    blocks, tiles = -(-key_length // block[1]), -(-(heads // key_heads) // block[0])
    pair_bits = q.new_empty(batch, heads, blocks, dtype=torch.int64)
    tile_bits = q.new_empty(batch, key_heads, tiles, blocks, dtype=torch.int64)
    pairs_kernel[(batch * key_heads * tiles * blocks,)](
        pair_bits,
        tile_bits,
        query_starts,
        key_lengths,
        blocks,
        heads,
        heads // key_heads,
        query_length,
        key_length,
        ROW_BLOCK=block[0],
        KEY_BLOCK=block[1],
        num_warps=4,
        **read,
    )
    return pair_bits, tile_bits
