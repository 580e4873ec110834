"""What the compiler does so far: a pattern file read and formatted; exact tiles of a window over a million tokens."""

from pathlib import Path
from time import perf_counter

from maskdsl.analysis.stats import stats
from maskdsl.analysis.tiles import tiles
from maskdsl.ir.expressions import Constant, Coordinate, Side, apply
from maskdsl.ir.mask import Axis, Clause, MaskIR, Sequence, Space
from maskdsl.ir.ops import Op
from maskdsl.syntax.format import format_file
from maskdsl.syntax.program import load_program


def window(length: int, reach: int) -> MaskIR:
    """The IR of `attend window(2 * reach + 1)` over `length` tokens."""
    sequence = Sequence((Space("tokens", (Axis("tokens", length),)),))
    distance = apply(Op.SUBTRACT, Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i"))
    near = apply(Op.LESS_EQUAL, apply(Op.ABSOLUTE, distance), Constant(reach))
    return MaskIR("window", (), 1, sequence, sequence, True, (), (Clause(near),), (), near)


def main() -> None:
    print(format_file(load_program(Path(__file__).parent / "language" / "longformer.attn").root))
    mask = window(length=1_048_576, reach=256)
    start = perf_counter()
    found = tiles(mask, block=(128, 128))
    elapsed = perf_counter() - start
    print(
        f"window of 513 over 1,048,576 tokens, tiles of 128 x 128: {found.full_count():,} full, "
        f"{found.partial_count():,} partial, exact, in {elapsed * 1000:.0f} ms"
    )
    print(stats(mask, block=(128, 128)).total)


if __name__ == "__main__":
    main()
