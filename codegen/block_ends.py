# hole: above
"""What tiles are found from on the device: bounds over blocks of tokens. The skeleton in front of `device_tiles.py`."""

import torch
import triton
import triton.language as tl

# end
# hole: extremes
# Blocks of all sizes that kernels have: what one kernel keeps serves all that have other tiles.

SMALLEST = 16
LARGEST = 128
EXTREMES_NUMBERS = ["room", "heads", "tokens"]
EXTREMES_NUMBERS += [
    f"{tensor}_{axis}_stride" for tensor in ("value", "position") for axis in ("batch", "head", "token")
]


@triton.jit(do_not_specialize=EXTREMES_NUMBERS)
def extremes_kernel(
    ends,
    values,
    positions,
    value_batch_stride,
    value_head_stride,
    value_token_stride,
    position_batch_stride,
    position_head_stride,
    position_token_stride,
    room,
    heads,
    tokens,
    SMALLEST: tl.constexpr,
    LARGEST: tl.constexpr,
    SIZES: tl.constexpr,
):
    """The `extremes` of LARGEST tokens; `positions` are None, or lay the tokens out."""
    pieces = tl.cdiv(tokens, LARGEST)
    piece, head_class = tl.program_id(0) % pieces, (tl.program_id(0) // pieces).to(tl.int64)
    batch, head = head_class // heads, head_class % heads
    token = tl.minimum(piece * LARGEST + tl.arange(0, LARGEST), tokens - 1).to(tl.int64)
    if positions is not None:
        token = tl.load(
            positions + batch * position_batch_stride + head * position_head_stride + token * position_token_stride
        )
    value = tl.load(values + batch * value_batch_stride + head * value_head_stride + token * value_token_stride)
    least = value.to(ends.dtype.element_ty)
    greatest = least
    if least.dtype.is_floating():
        least = tl.where(value == value, least, float("-inf"))
        greatest = tl.where(value == value, greatest, float("inf"))
    for number in tl.static_range(SIZES):
        store_extremes(ends, least, greatest, head_class, piece, tokens, room, SMALLEST << number, LARGEST)
        ends += 2 * room.to(tl.int64)


@triton.jit
def store_extremes(lows, least, greatest, head_class, piece, tokens, room, SIZE: tl.constexpr, LARGEST: tl.constexpr):
    """Stores the minimum and the maximum of each SIZE of these LARGEST tokens."""
    COUNT: tl.constexpr = LARGEST // SIZE
    blocks = tl.cdiv(tokens, SIZE)
    block = piece * COUNT + tl.arange(0, COUNT)
    low = lows + head_class * blocks + block
    tl.store(low, tl.min(tl.reshape(least, [COUNT, SIZE]), 1), mask=block < blocks)
    tl.store(low + room, tl.max(tl.reshape(greatest, [COUNT, SIZE]), 1), mask=block < blocks)


def extremes(values, positions, batch, heads, dtype):
    """Minimum and maximum of a per-token table in blocks of every size. NaN gives -inf and inf.

    A row of minima and one of maxima for SMALLEST tokens, then for twice as many, and so on up to LARGEST. Each row
    begins with [batch, heads, blocks]. `values` and `positions` are those of `token_table`.
    """
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    tokens = values.shape[2] if positions is None else positions.shape[2]
    values = (values.view(torch.uint8) if values.dtype == torch.bool else values).expand(batch, heads, -1)
    positions = None if positions is None else positions.expand(batch, heads, -1)
    sizes = (LARGEST // SMALLEST).bit_length()
    room = -(-batch * heads * -(-tokens // SMALLEST) // 16) * 16  # rows are aligned alike for all lengths
    ends = torch.empty(2 * sizes, room, dtype=dtype, device=values.device)
    strides = *values.stride(), *((0, 0, 0) if positions is None else positions.stride())
    extremes_kernel[(batch * heads * -(-tokens // LARGEST),)](
        *(ends, values, positions, *strides, room, heads, tokens), SMALLEST=SMALLEST, LARGEST=LARGEST, SIZES=sizes
    )
    return ends


def extremes_of(ends, size):
    """The minima and the maxima in blocks of `size` tokens, both [batch, heads, blocks] from the beginning on."""
    row = 2 * (size // SMALLEST).bit_length() - 2
    return ends[row], ends[row + 1]


# end
def block_bounds(device, shape, inputs, layout=(None, None)):
    """What tiles of any size are found from: extremes of coordinates in blocks, counts of booleans, and inputs.

    `shape` is that of `find_tiles`; `inputs` and `layout` are those of `attention`.
    """
    # hole: bounds
    return ()
    # end
