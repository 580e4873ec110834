"""Errors of masks that the encoding of another engine cannot hold. Raised by `engines`."""

from maskdsl.base.diagnostics import Diagnostic


class BranchedMask(Diagnostic):
    code = "E650"
    message = "`{pattern}` has branches, and {engine} computes one softmax"
    label = "this pattern"
    help = "encode each of `mask.branches`, which are masks of their own, and add up their outputs"

    pattern: str
    engine: str


class TooManyRuns(Diagnostic):
    code = "E651"
    message = "query {query} of head {head} attends so many runs of keys that it takes {needed} functions, not {most}"
    help = "give most={needed}; with many functions, `mask.block_mask()` is cheaper"

    query: int
    head: int
    needed: int
    most: int


class TooManyGaps(Diagnostic):
    code = "E652"
    message = "{count} runs of queries do not attend key {key} of head {head}, and FlashMask holds two"
    help = "take `mask.row_intervals()`, which holds any number for each query, or `mask.block_mask()`"

    key: int
    head: int
    count: int


class UnlikeHeads(Diagnostic):
    code = "E653"
    message = "head {head} attends other keys than head 0, and slices are of all heads of a call"
    help = "name one, `mask.slices(head={head})`, and call the kernel once for each set of heads that are alike"

    head: int


class PartialBlock(Diagnostic):
    code = "E654"
    message = "of the block in row {row} and column {column} some pairs attend, and block-sparse rows hold whole ones"
    help = "take smaller blocks, of which (1, 1) always fits, or `mask.bits()`"

    row: int
    column: int


class UnevenBlocks(Diagnostic):
    code = "E655"
    message = "{keys} keys are no multiple of {block}, and all blocks of block-sparse rows are of one width"
    help = "take a width that divides the number of keys"

    keys: int
    block: int


class UnsaidScores(Diagnostic):
    code = "E656"
    message = "no number or array that {engine} takes says {what} of `{pattern}`"
    label = "this pattern"
    help = "{instead}"

    what: str
    engine: str
    pattern: str
    instead: str


class UnknownHeadDim(Diagnostic):
    code = "E657"
    message = "the scale of `{pattern}` takes the head dimension, which is not given"
    label = "this pattern"
    help = "give it: mask.engine_scores(engine, head_dim=64)"

    pattern: str
