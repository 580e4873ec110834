"""Which kernels can compute the tiles of a row in pieces, and the holes of the skeletons for it."""

from maskdsl.analysis.cost.tile_table import KernelName
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.triton.forward_body import MaybeHoles, scores_may_be_large
from maskdsl.emit.triton.input_gradients import Leaves
from maskdsl.emit.triton.token_coordinates import KernelNames
from maskdsl.ir.mask import Normalize

_FORWARD = ("piece_parameters", "piece_results", "piece_arguments")
_QUERY = ("query_piece_parameters", "query_pieces", "row_pieces", "join_rows")
_KEY = ("key_piece_parameters", "key_pieces", "column_pieces", "join_columns")


def splits(plan: KernelPlan, kernel: KernelName) -> bool:
    """Whether a kernel can compute rows in pieces.

    That is so where tiles are listed on the host, for a softmax, if its result is all that it sums over a row.
    """
    limits = plan.column_limits if kernel is KernelName.KEY_GRADIENT else plan.row_limits
    if limits is not None or plan.finds_device_tiles or plan.mask.normalize is Normalize.NONE:
        return False
    match kernel:
        case KernelName.FORWARD:
            return True
        case KernelName.QUERY_GRADIENT:
            sums = scores_may_be_large(plan) or plan.mask.factor is not None
            return not sums and not Leaves(KernelNames(plan)).nodes
        case KernelName.KEY_GRADIENT:
            return not Leaves(KernelNames(plan)).nodes


def forward_holes(plan: KernelPlan, unit: str) -> MaybeHoles:
    """Of `codegen/forward.py`; `unit` is the text of UNIT."""
    imports: MaybeHoles = {"piece_functions": []}  # they follow
    if splits(plan, KernelName.FORWARD):
        joined = f"start_join_kernel(tiles, piece_results, piece_sums, out, lse, {unit})"
        return {**imports, **dict.fromkeys((*_FORWARD, "pieces")), "join_pieces": [joined]}
    whole = {"pieces": ["real = queries < query_length"]}
    return {**imports, **{name: [] for name in (*_FORWARD, "join_pieces")}, **whole}


def gradient_holes(plan: KernelPlan) -> MaybeHoles:
    """Of `codegen/backward.py`."""
    kernels = {KernelName.QUERY_GRADIENT: _QUERY, KernelName.KEY_GRADIENT: _KEY}
    return {name: None if splits(plan, kernel) else [] for kernel, names in kernels.items() for name in names}


def piece_holes(plan: KernelPlan) -> MaybeHoles:
    """Of `codegen/pieces.py`, which a module has if any of its kernels splits rows."""
    gradients = splits(plan, KernelName.QUERY_GRADIENT) or splits(plan, KernelName.KEY_GRADIENT)
    forward = splits(plan, KernelName.FORWARD)
    return {"above": [], "join_kernel": None if forward else [], "sum_kernel": None if gradients else []}
