"""Ways in which the product is broken on purpose, and the tests that have to notice each: see `mutants.py`."""

from typing import NamedTuple

COMPARE = "tests.independent.compare"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    """What stands in the file exactly once."""
    new: str
    tests: tuple[str, ...]
    """Nodes of pytest, or what follows `python -m`: `COMPARE`, the first seed, how many."""

    def applied(self, text: str) -> str:
        """The file with the fault."""
        assert text.count(self.old) == 1, f"{self.name}: {text.count(self.old)} places in {self.file}"
        return text.replace(self.old, self.new)


def compared(first: int, count: int, *options: str) -> tuple[str, ...]:
    return (COMPARE, str(first), str(count), *options)


def of(module: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"tests/{module}.py::{each}" for each in tests)


def rule(name: str) -> tuple[str, ...]:
    return of("analysis/test_intervals", f"test_a_rule_holds_every_value[{name}]")


CLOSED = "maskdsl/analysis/tiles/closed_form.py"
DERIVE = "maskdsl/ir/rewrites/derive.py"
INTERVALS = "maskdsl/ir/facts/intervals.py"
RANGES = "maskdsl/ir/facts/ranges.py"
SIMPLIFY = "maskdsl/ir/simplify.py"
STATS = "maskdsl/analysis/counts/stats.py"
STATE = "maskdsl/runtime/base/call_cache.py"
TEXT = "maskdsl/base/text.py"
CACHE = "maskdsl/base/cache.py"
WHERE = "maskdsl/runtime/decode/paging.py"
VARLEN = "maskdsl/runtime/calls/varlen.py"
PACKED = "maskdsl/runtime/base/packed_tokens.py"
SUMMARIES = "maskdsl/runtime/kernels/key_summaries.py"
ROUTING_STATE = "maskdsl/runtime/routing/routing_state.py"
OPERATORS_OF_PAGE = "maskdsl/view/page/assets/operators.js"

PROGRAMS = compared(1, 12)
KERNELS = compared(1, 6, "--triton")

MUTANTS = (
    # Intervals
    Mutant("absolute of negatives", INTERVALS, "np.maximum(-a.low, a.high))", "a.high)", rule("absolute-int")),
    Mutant(
        "difference by low ends",
        INTERVALS,
        "Interval(a.low - b.high, a.high - b.low)",
        "Interval(a.low - b.low, a.high - b.high)",
        rule("subtract-int-int"),
    ),
    Mutant(
        "quotient by what holds zero",
        INTERVALS,
        "_holds_zero(b) | (_is_unbounded(a) & _is_unbounded(b))",
        "_is_unbounded(a) & _is_unbounded(b)",
        rule("divide-float-float"),
    ),
    Mutant(
        "two periods taken for one",
        INTERVALS,
        "one_period = quotient.low == quotient.high",
        "one_period = quotient.low >= quotient.high - 1",
        rule("floor_modulo-int-int"),
    ),
    Mutant(
        "less at equal ends", INTERVALS, "Interval(a.high < b.low,", "Interval(a.high <= b.low,", rule("less-int-int")
    ),
    Mutant(
        "choice of its first value",
        INTERVALS,
        "np.where(condition.high, np.minimum(then.low, otherwise.low), otherwise.low)",
        "np.where(condition.high, then.low, otherwise.low)",
        rule("select-bool-int-int"),
    ),
    Mutant(
        "equal where two ends meet",
        INTERVALS,
        "Interval((a.low == b.high) & (a.high == b.low),",
        "Interval((a.low == b.high) | (a.high == b.low),",
        rule("equal-int-int"),
    ),
    Mutant(
        "bits shared by low ends",
        INTERVALS,
        "np.where(known, shared, ~zero)",
        "shared",
        rule("share_bit-int-int"),
    ),
    # Static ranges
    Mutant(
        "quotients by the ends alone",
        RANGES,
        "for divisor in (b.low, b.high, -1, 1)",
        "for divisor in (b.low, b.high)",
        of("ir/test_ranges", "test_a_range_holds_every_value[floor_divide]"),
    ),
    Mutant(
        "absolute without zero",
        RANGES,
        "low = 0 if 0 in a else min(abs(a.low), abs(a.high))",
        "low = min(abs(a.low), abs(a.high))",
        of("ir/test_ranges", "test_a_range_holds_every_value[absolute]"),
    ),
    Mutant(
        "even powers without zero",
        RANGES,
        "if exponent % 2 == 0 and 0 in a and exponent > 0:",
        "if exponent % 2 == 1 and 0 in a and exponent > 0:",
        of("ir/test_ranges", "test_a_range_holds_every_value[power]"),
    ),
    Mutant(
        "modulo by a range of one sign",
        RANGES,
        "return Range(min(b.low + 1, 0), max(b.high - 1, 0))",
        "return Range(0, max(b.high - 1, 0))",
        of("ir/test_ranges", "test_a_range_holds_every_value[floor_modulo]"),
    ),
    # Laws of simplification
    Mutant(
        "0 - x is x",
        SIMPLIFY,
        "case Apply(op=Op.ADD, arguments=(Constant(value=0), x))",
        "case Apply(op=Op.ADD | Op.SUBTRACT, arguments=(Constant(value=0), x))",
        of("ir/test_simplify", "test_neighbours_of_laws_keep_their_value"),
    ),
    Mutant(
        "float(x) < 2.5 is x < 2",
        SIMPLIFY,
        "floor(bound) if op is Op.LESS_EQUAL else ceil(bound)",
        "floor(bound)",
        of("ir/test_simplify", "test_law"),
    ),
    Mutant(
        "constants of a sum subtracted",
        SIMPLIFY,
        "outer[1] + inner[1]",
        "outer[1] - inner[1]",
        of("ir/test_simplify", "test_law"),
    ),
    Mutant(
        "a or not a is a",
        SIMPLIFY,
        "isinstance(each, Apply) and each.op is other and alone",
        "isinstance(each, Apply) and alone",
        of("ir/test_simplify", "test_neighbours_of_laws_keep_their_value"),
    ),
    # Derivatives and kinks
    Mutant(
        "a tie of a minimum to its second operand",
        DERIVE,
        "return _larger(x, y, b, _product(_HALF, _sum(a, b)), a)",
        "return _larger(x, y, b, b, a)",
        of("ir/test_derive", "test_derivatives_keep_to_the_table"),
    ),
    Mutant(
        "a derivative of the absolute value at zero",
        DERIVE,
        "_larger(x, _ZERO, a, None, _negative(a))",
        "_larger(x, _ZERO, a, a, _negative(a))",
        of("ir/test_derive", "test_derivatives_keep_to_the_table"),
    ),
    Mutant(
        "a power as high as before",
        DERIVE,
        "Constant(float(n) - 1)",
        "Constant(float(n))",
        of("ir/test_derive", "test_derivative_is_the_limit_of_differences"),
    ),
    # Printers
    Mutant(
        "torch: divisors may be zero",
        "maskdsl/emit/torch/torch_printer.py",
        "if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO) and not _is_never_zero(arguments[1]):",
        "if op is Op.FLOOR_DIVIDE and not _is_never_zero(arguments[1]):",
        of("runtime/test_agreement", "test_tokens_without_a_divisor_do_not_divide_by_it[tiled]"),
    ),
    Mutant(
        "torch: scores compared as floats of their type",
        "maskdsl/emit/torch/torch_printer.py",
        "if op in COMPARISONS and arguments[0].type is Type.FLOAT and not self.double:",
        "if op in COMPARISONS and arguments[0].type is Type.FLOAT and self.double:",
        of("runtime/test_large_scores", "test_scores_are_compared_in_float64[tiled]"),
    ),
    Mutant(
        "triton: negative dividends divided as they are",
        "maskdsl/emit/triton/triton_printer.py",
        "return dividend.low < 0 or divisor.low <= 0",
        "return divisor.low <= 0",
        of("triton/test_interpreted", "test_everything"),
    ),
    Mutant(
        "triton: wide sums in 32 bits",
        "maskdsl/emit/triton/triton_printer.py",
        "return low in INT32 and high in INT32",
        "return low in INT32 or high in INT32",
        of("triton/test_interpreted", "test_everything"),
    ),
    Mutant(
        "differences of differences without parentheses",
        "maskdsl/emit/statement_printer.py",
        'Op.SUBTRACT: ("-", SUM, SUM, PRODUCT)',
        'Op.SUBTRACT: ("-", SUM, SUM, SUM)',
        of("runtime/test_agreement", "test_what_is_nested_stays_so_in_generated_code"),
    ),
    Mutant(
        "torch: a minimum printed as a maximum",
        "maskdsl/ir/ops.py",
        'torch="torch.minimum"',
        'torch="torch.maximum"',
        of("runtime/test_agreement", "test_what_is_nested_stays_so_in_generated_code"),
    ),
    # Indices within tables
    Mutant(
        "an index of the length is inside",
        "maskdsl/ir/facts/table_reads.py",
        "index.low >= 0 and index.high < size",
        "index.low >= 0 and index.high <= size",
        of("analysis/test_in_bounds", "test_the_first_index_behind_a_table"),
    ),
    Mutant(
        "tensors that changed pass",
        "maskdsl/runtime/kernels/open_reads.py",
        "(version, entries) == (x._version, batch)",
        "entries == batch",
        of("runtime/test_open_reads", "test_tensors_that_passed_are_not_looked_at_again"),
    ),
    Mutant(
        "reads of the queries before a part",
        "maskdsl/runtime/kernels/open_reads.py",
        "Constant(self.start + self.queries)",
        "Constant(self.queries)",
        of("runtime/test_open_reads", "test_calls_with_some_of_the_queries"),
    ),
    Mutant(
        "negative values pass",
        "maskdsl/analysis/indices/in_bounds.py",
        "Range(int(values.min()), int(values.max()))",
        "Range(0, int(values.max()))",
        of("runtime/test_open_reads", "test_values_that_lead_outside"),
    ),
    # What is kept
    Mutant(
        "tiles of another batch",
        STATE,
        "key: tuple[object, ...] = (batch,)",
        "key: tuple[object, ...] = (1,)",
        of("runtime/test_states", "test_batches_of_other_sizes"),
    ),
    Mutant(
        "tiles of other values",
        STATE,
        "array.dtype.str, _digest(array))",
        "array.dtype.str)",
        of("runtime/test_states", "test_values"),
    ),
    Mutant(
        "tiles of equal bytes of another type",
        STATE,
        "(name, array.shape, array.dtype.str, _digest(array))",
        "(name, array.shape, _digest(array))",
        of("runtime/test_states", "test_types"),
    ),
    Mutant(
        "masks of other numbers of heads",
        "codegen/tiled.py",
        "(tile.mask_key, self.heads, units, self.q.device, kind)",
        "(tile.mask_key, units, self.q.device, kind)",
        of("runtime/test_kept", "test_heads_that_share_keys_are_others_in_the_next_call"),
    ),
    Mutant(
        "masks of one unit for all",
        "codegen/tiled.py",
        "units = None if self.varying.isdisjoint(read) else tile.units",
        "units = None",
        of("runtime/test_tiled", "test_masks_of_entries_that_share_tiles_are_their_own"),
    ),
    Mutant(
        "handles without the backend",
        "maskdsl/runtime/compiled_mask.py",
        "digest((plan, backend))",
        "digest(plan)",
        of("runtime/test_kept", "test_handles_name_all_that_results_depend_on"),
    ),
    Mutant(
        "handles of patterns alone",
        "maskdsl/runtime/following.py",
        "for file in self.program.files), *others))",
        "for file in self.program.files), self.pattern))",
        of("runtime/test_kept", "test_handles_name_all_that_results_depend_on"),
    ),
    Mutant(
        "one coordinate for another",
        "maskdsl/runtime/base/token_values.py",
        "kept.keep((name, device), ",
        "kept.keep(device, ",
        PROGRAMS,
    ),
    Mutant(
        "inputs of all tokens are those of the first space",
        "maskdsl/runtime/base/token_values.py",
        "value[..., offset : offset + space.size]",
        "value[..., : space.size]",
        of("runtime/test_decode", "test_inputs_of_all_tokens_are_those_of_each_space"),
    ),
    Mutant(
        "lengths of keys alone",
        "maskdsl/runtime/following.py",
        "if len(self.follow) == 1 else (queries, keys)",
        "if len(self.follow) == 1 else (keys, keys)",
        of("runtime/test_citizenship", "test_queries_and_keys_of_their_own_lengths"),
    ),
    # Empty rows
    Mutant(
        "tiled: gradients flow from empty rows",
        "codegen/tiled.py",
        "norms = normalizers(problem, lse, empty)",
        "norms = normalizers(problem, lse, empty & False)",
        PROGRAMS,
    ),
    Mutant(
        "tiled: rows of partial columns are never empty",
        "codegen/tiles.py",
        "in self.group.partial) == self.width",
        "in self.group.partial) > self.width",
        of("runtime/test_tiled", "test_rows_that_may_be_empty_are_computed_once"),
    ),
    Mutant(
        "tiled: nothing merged with nothing is no number",
        "codegen/tiled.py",
        "l_i = (old + new).masked_fill_(empty, 1)",
        "l_i = old + new",
        of("runtime/test_agreement", "test_long_rows_are_merged_from_pieces"),
    ),
    Mutant(
        "two passes: a finite log-sum-exp of nothing",
        "maskdsl/runtime/decode/regrouped.py",
        "(l_i.log() + m_i).masked_fill(empty, -torch.inf)",
        "l_i.log() + m_i",
        of("runtime/test_regroup", "test_parts_without_any_key"),
    ),
    Mutant(
        "no keys are some",
        "maskdsl/runtime/kernels/dispatch.py",
        "return 0 in (q.shape[0], q.shape[2], k.shape[2])",
        "return 0 in (q.shape[0], q.shape[2])",
        of("runtime/test_no_tokens", "test_nothing_attends_nothing"),
    ),
    Mutant(
        "reference: a finite log-sum-exp of nothing",
        "codegen/reference.py",
        "lse = (l_i.log() + m_i).masked_fill(empty, -torch.inf).squeeze(-1)",
        "lse = (l_i.log() + m_i).squeeze(-1)",
        PROGRAMS,
    ),
    Mutant(
        "forward kernel: a finite log-sum-exp of nothing",
        "codegen/forward.py",
        'lse_i = tl.where(empty, float("-inf"), lse_i)\n    # end',
        "lse_i = tl.where(empty, m_i, lse_i)\n    # end",
        KERNELS,
    ),
    Mutant(
        "backward kernel: rows behind the last send gradients",
        "codegen/backward.py",
        "(0, -query_length % 128), value=torch.inf)",
        "(0, -query_length % 128), value=0)",
        of("triton/test_interpreted", "test_shapes_and_strides"),
    ),
    Mutant(
        "backward kernel: what a large log-sum-exp has lost of its sum stays lost",
        "maskdsl/emit/triton/backward_body.py",
        "queries, tl.log2(l_i))",
        "queries, l_i * 0)",
        of("triton/test_interpreted", "test_padding_by_the_lowest_numbers[causal-float32-256]"),
    ),
    Mutant(
        "decoding kernel: a finite log-sum-exp of nothing",
        "codegen/decode.py",
        'lse_i = tl.where(empty, float("-inf"), lse_i + tl.log2(l_i) * 0.6931471805599453)',
        "lse_i = lse_i + tl.log2(tl.where(empty, 1.0, l_i)) * 0.6931471805599453",
        KERNELS,
    ),
    # Pages
    Mutant(
        "a page behind the last",
        WHERE,
        "table.masked_fill(table >= pages, -1)",
        "table.masked_fill(table > pages, -1)",
        of("runtime/test_decode", "test_what_a_gpu_is_not_waited_for_is_never_read"),
    ),
    Mutant(
        "pages that are missing hold keys",
        WHERE,
        "return present if table is None else present & (table[:, positions // k.shape[2]] >= 0)",
        "return present",
        of("runtime/test_decode", "test_missing_pages_hold_no_keys"),
    ),
    Mutant(
        "one page more than there are",
        WHERE,
        "wrong = (asked & (table >= len(k)))",
        "wrong = (asked & (table > len(k)))",
        of("runtime/test_decode", "test_pages_that_do_not_exist"),
    ),
    Mutant(
        "one key more than there is room for",
        WHERE,
        "if low < 0 or high > available:",
        "if low < 0 or high > available + 1:",
        of("runtime/test_decode", "test_mistakes"),
    ),
    Mutant(
        "keys in pages by the number of pages",
        WHERE,
        "x.transpose(1, 2)[pages.clamp(min=0), positions % x.shape[2]]",
        "x.transpose(1, 2)[pages.clamp(min=0), positions % x.shape[0]]",
        of("runtime/test_decode", "test_missing_pages_hold_no_keys"),
    ),
    Mutant(
        "decoding kernel: splits count alike",
        "codegen/decode.py",
        "tl.exp(split_m - new_m) * tl.load(partial_l + index, mask=real, other=0.0)",
        "tl.exp(split_m - new_m)",
        of("triton/test_interpreted", "test_decoding[0]"),
    ),
    Mutant(
        "the first key once more where others have more keys",
        "maskdsl/runtime/decode/gather.py",
        "torch.arange(most) < counts",
        "torch.arange(most) <= counts",
        of("runtime/test_decode", "test_keys_of_a_short_entry_beside_a_long_one"),
    ),
    Mutant(
        "decoding kernel: values where keys are",
        "codegen/decode.py",
        "value_offsets = page * v_batch_stride",
        "value_offsets = page * k_batch_stride",
        of("triton/test_interpreted", "test_decoding[0]"),
    ),
    Mutant(
        "gathered keys of pages by rows of the table",
        "maskdsl/runtime/decode/gather.py",
        "heads, positions % x.shape[2]]",
        "heads, positions % x.shape[1]]",
        PROGRAMS,
    ),
    # Packed sequences
    Mutant("the last token is of the next sequence", PACKED, "index, right=True)", "index, right=False)", PROGRAMS),
    Mutant(
        "places are counted from the first sequence",
        PACKED,
        "position = index - ends[entry] + ",
        "position = index - ends[0] + ",
        of("runtime/test_varlen", "test_each_sequence_alone"),
    ),
    Mutant(
        "tokens of no sequence attend each other",
        VARLEN,
        "-1 if side is Side.QUERY else -2",
        "-1",
        of("runtime/test_varlen", "test_tokens_of_no_sequence_attend_nothing"),
    ),
    Mutant(
        "packed queries are the first of their sequence",
        PACKED,
        "return offsets if mask.is_layer else torch.zeros_like(offsets)",
        "return torch.zeros_like(offsets)",
        of("runtime/test_varlen", "test_each_sequence_alone"),
    ),
    Mutant(
        "packed queries may end one behind the pattern",
        VARLEN,
        "starts > mask.queries.length - sizes",
        "starts > mask.queries.length - sizes + 1",
        of("runtime/test_varlen", "test_mistakes_of_queries"),
    ),
    # Chunks
    Mutant(
        "chunks begin at the first query",
        "maskdsl/runtime/decode/decode_call.py",
        "positions = (starts.long()[:, None] + torch.arange",
        "positions = (0 * starts.long()[:, None] + torch.arange",
        PROGRAMS,
    ),
    Mutant(
        "a chunk behind the last query",
        WHERE,
        "if low < 0 or high > last:",
        "if low < 0 or high > last + 1:",
        of("runtime/test_decode", "test_mistakes"),
    ),
    # Orders
    Mutant(
        "the way back is the way there",
        "maskdsl/runtime/base/permute.py",
        "Move(queries, queries.argsort(dim=-1))",
        "Move(queries, queries)",
        compared(1, 30),
    ),
    Mutant(
        "keys sorted by their last key first",
        "maskdsl/ir/meaning/coordinates.py",
        "for key in reversed(keys)]",
        "for key in keys]",
        of("ir/test_meaning", "test_orders_sort_each_space_in_its_stretch"),
    ),
    Mutant(
        "gradients of keys are means over the heads that share them",
        "maskdsl/runtime/kernels/dispatch.py",
        "*grad.shape[2:]).sum(dim=2)",
        "*grad.shape[2:]).mean(dim=2)",
        of("runtime/test_heads", "test_gradients_of_heads_that_share_keys_in_orders_of_their_own"),
    ),
    # Closed forms
    Mutant(
        "less as less or equal",
        CLOSED,
        "yield self.integer(a) - self.integer(b) + 1",
        "yield self.integer(a) - self.integer(b)",
        of("analysis/test_closed", "test_closed_forms_agree_with_exact_tiles"),
    ),
    Mutant(
        "limits at the wrong end of a block",
        CLOSED,
        "falls = self.direction(value) < 0",
        "falls = self.direction(value) > 0",
        of("analysis/test_closed", "test_closed_forms_agree_with_exact_tiles"),
    ),
    Mutant(
        "what is rounded down, exactly",
        CLOSED,
        "over - under * limit - under + 1",
        "over - under * limit",
        of("analysis/test_closed", "test_closed_forms_agree_with_exact_tiles"),
    ),
    # Tiles and counts
    Mutant(
        "batch entries with the tokens of the first",
        "maskdsl/analysis/tiles/head_classes.py",
        "first_heads[head], entry if DimensionKind.BATCH in kinds else 0",
        "first_heads[head], 0",
        of("analysis/test_tiles", "test_documents_differ_by_batch_entry"),
    ),
    Mutant(
        "full tiles are partial as well",
        "maskdsl/analysis/tiles/descent.py",
        "still.select(some & ~every)",
        "still.select(some)",
        of("analysis/test_descent", "test_full_tiles_that_intervals_leave_open"),
    ),
    Mutant(
        "full tiles told as partial ones",
        "maskdsl/view/head_figures.py",
        "HeadFigures(number, block_map.full_count(head), block_map.partial_count(head), density)",
        "HeadFigures(number, block_map.partial_count(head), block_map.full_count(head), density)",
        of("cli/test_json", "test_show"),
    ),
    Mutant(
        "keys behind the last are counted",
        "maskdsl/analysis/counts/keys_per_query.py",
        "np.minimum(block.astype(np.int64) * key.sizes[0], key.length)",
        "block.astype(np.int64) * key.sizes[0]",
        of("analysis/test_descent", "test_classes_and_counts_are_those_of_the_dense_mask"),
    ),
    Mutant(
        "the upper of two medians",
        STATS,
        "middle = (cumulative[-1] - 1) // 2, cumulative[-1] // 2",
        "middle = cumulative[-1] // 2, cumulative[-1] // 2",
        of("analysis/test_stats", "test_median_of_counted_numbers"),
    ),
    Mutant(
        "the output is not written",
        STATS,
        "(written + read)",
        "read",
        of("analysis/test_stats", "test_bytes_count_each_row_of_tiles"),
    ),
    # Pools
    Mutant(
        "means over whole boxes",
        "codegen/pooling.py",
        "dtype) / total.clamp(min=1)",
        "dtype) / total.amax()",
        of("runtime/test_pooling", "test_results_and_gradients"),
    ),
    Mutant(
        "maxima of cut boxes are not negative",
        "codegen/pooling.py",
        "self.box, lowest)",
        "self.box, 0)",
        of("runtime/test_pooling", "test_results_and_gradients"),
    ),
    Mutant(
        "means of means count boxes",
        "codegen/pooling.py",
        "x.to(dtype) * count if weighted else x",
        "x",
        of("runtime/test_pools", "test_a_mean_of_means_counts_each_token_once"),
    ),
    Mutant(
        "pools without tokens are attended",
        "maskdsl/bind/statement/pool_members.py",
        "            if _may_be_empty(space, declared):",
        "            if False:",
        of("runtime/test_pools", "test_results_and_gradients"),
    ),
    Mutant(
        "the last token of a cut box is behind the border",
        "maskdsl/bind/statement/pool_members.py",
        "end if length % side == 0 else",
        "end if True else",
        of("runtime/test_pools", "test_boxes_know_their_tokens"),
    ),
    # Heads of a whole
    Mutant(
        "heads are counted from the first here",
        "maskdsl/bind/context/sides.py",
        "    if heads.first:\n",
        "    if not heads.count:\n",
        of("runtime/test_values", "test_heads_are_counted_in_the_whole"),
    ),
    Mutant(
        "inputs of the first heads of the whole",
        "maskdsl/runtime/base/input_tensors.py",
        "tensor = tensor.narrow(-2, *declared.heads_here)",
        "tensor = tensor.narrow(-2, 0, declared.heads_here[1])",
        of("runtime/test_values", "test_values_of_the_heads_that_are_here"),
    ),
    Mutant(
        "gradients of the last heads of the whole",
        "maskdsl/runtime/base/input_tensors.py",
        "(0, 0, first, heads - first - count)",
        "(0, 0, heads - first - count, first)",
        of("runtime/test_values", "test_values_of_the_heads_that_are_here"),
    ),
    Mutant(
        "axes of gradients in the order of values",
        "maskdsl/runtime/base/input_tensors.py",
        "return value.permute(back)",
        "return value.permute(declared.arrangement)",
        of("runtime/test_values", "test_axes_in_any_order_are_those_of_their_gradients"),
    ),
    Mutant(
        "entries of a mapped axis are numbered on",
        "maskdsl/runtime/torch_ops/vmap.py",
        "not differs and not plan.reads_batch)",
        "not differs)",
        of("runtime/test_citizenship", "test_vmap[numbered]"),
    ),
    # Coordinates
    Mutant(
        "snakes that never turn",
        "maskdsl/ir/meaning/curves.py",
        "np.where(position % 2 == 0, cell, length - 1 - cell)",
        "cell",
        of("ir/test_meaning", "test_curves_go_from_neighbour_to_neighbour"),
    ),
    Mutant(
        "Morton curves by the last axis first",
        "maskdsl/ir/meaning/curves.py",
        "        for cell in cells:\n            code =",
        "        for cell in cells[::-1]:\n            code =",
        of("ir/test_meaning", "test_a_morton_curve_goes_by_bits_the_first_axis_first"),
    ),
    Mutant(
        "page: remainders of negatives are negative",
        OPERATORS_OF_PAGE,
        "a[i] - b[i] * Math.floor(a[i] / b[i])",
        "a[i] - b[i] * Math.trunc(a[i] / b[i])",
        of("page/test_evaluate", "test_operators"),
    ),
    Mutant(
        "page: bits beyond 32 are not shared",
        OPERATORS_OF_PAGE,
        "(a[i] & b[i]) !== 0 || (high(a[i]) & high(b[i])) !== 0",
        "(a[i] & b[i]) !== 0",
        of("page/test_evaluate", "test_operators"),
    ),
    # Parser and formatter
    Mutant(
        "powers of powers without parentheses",
        "maskdsl/syntax/format_expression.py",
        "self.expression(left, Precedence.ATOM),",
        "self.expression(left, Precedence.POWER),",
        of("syntax/test_format", "test_kept_as_written"),
    ),
    Mutant(
        "an integer of more than 64 bits",
        "maskdsl/syntax/build.py",
        "or int(digits) > _LARGEST_INTEGER:",
        "or int(digits) > _LARGEST_INTEGER + 1:",
        of("syntax/test_parse", "test_the_largest_integer"),
    ),
    # Warnings
    Mutant(
        "an allowance reaches all that follows",
        "maskdsl/syntax/allowances.py",
        "number >= 0 and span.start < self.spans[number].end",
        "number >= 0",
        of("warnings/test_warnings", "test_an_allowance_reaches_no_further"),
    ),
    Mutant(
        "positions behind another space are alike",
        "maskdsl/bind/context/position_warnings.py",
        "return query == key and _offset(queries, query) == _offset(keys, key)",
        "return query == key",
        of("warnings/test_warnings", "test_warning"),
    ),
    # Text as what it is written into takes it
    Mutant(
        "scripts ended by a text",
        TEXT,
        'text.replace("<", "\\\\u003c")',
        "text",
        of("test_text", "test_json_in_a_page_has_no_mark_of_html"),
    ),
    Mutant(
        "docstrings ended by a text",
        TEXT,
        '\'"""\', r',
        "'no text', r",
        of("test_text", "test_a_docstring_says_what_it_was_given"),
    ),
    Mutant(
        "strings of PDF ended by a text",
        TEXT,
        r'r"([\\()])"',
        r'r"([\\(])"',
        of("test_text", "test_text_of_other_outputs"),
    ),
    Mutant(
        "fences in Markdown ended by a text",
        TEXT,
        "max(3, 1 + _backticks(text))",
        "3",
        of("test_text", "test_text_of_other_outputs"),
    ),
    # Files of others
    Mutant(
        "files that others may write",
        CACHE,
        "status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)",
        "status.st_mode & stat.S_IWGRP & stat.S_IWOTH",
        of("test_cache", "test_what_others_could_have_written_is_not_read"),
    ),
    Mutant(
        "damaged files",
        CACHE,
        "return content if sha256(content).digest() == digest else None",
        "return content if len(digest) == 32 else None",
        of("test_cache", "test_damaged_content_is_not_read"),
    ),
    Mutant(
        "files behind links",
        CACHE,
        '("O_NOFOLLOW", "O_NONBLOCK", ',
        '("O_NONBLOCK", ',
        of("test_cache", "test_only_plain_files_are_read"),
    ),
    Mutant(
        "folders that others may read",
        CACHE,
        "folder.mkdir(mode=0o700, exist_ok=True)",
        "folder.mkdir(exist_ok=True)",
        of("test_cache", "test_folders_are_for_the_user_alone"),
    ),
    # Integrations
    Mutant(
        "padding is numbered",
        "maskdsl/integrations/positions.py",
        "token = exists.cumsum(-1) - 1",
        "token = index.expand(batch, -1)",
        of("integrations/test_places", "test_tokens_are_numbered_without_padding"),
    ),
    Mutant(
        "queries of dropped tokens",
        "maskdsl/integrations/positions.py",
        "(exists & (index < query_offset)).sum(-1)",
        "(given & (index < query_offset)).sum(-1)",
        of("integrations/test_places", "test_what_a_cache_has_dropped"),
    ),
    Mutant(
        "a bias taken for padding",
        "maskdsl/integrations/padding.py",
        "bool((mask[shown] == 0).all())",
        "bool((mask[shown] > _HIDDEN).all())",
        of("integrations/test_places", "test_a_mask_is_padding_or_not"),
    ),
    Mutant(
        "a mask of one head taken for all",
        "maskdsl/integrations/padding.py",
        "(shown == keys[:, None, None])",
        "(shown[:, :1] == keys[:, None, None])",
        of("integrations/test_places", "test_a_mask_is_padding_or_not"),
    ),
    Mutant(
        "inputs of what a cache has dropped",
        "maskdsl/integrations/positions.py",
        "self.slots + self.dropped[:, None])",
        "self.slots)",
        of("integrations/test_slot_inputs", "test_tables_of_pairs"),
    ),
    Mutant(
        "texts of CLIP are an encoder's",
        "maskdsl/integrations/transformers_models.py",
        "causal or _tells_causal(kind_of(owner))",
        "causal",
        of("integrations/test_kept_masks", "test_one_pattern_for_texts_and_images"),
    ),
    # What decoding keeps of keys
    Mutant(
        "groups that were forgotten are known",
        ROUTING_STATE,
        "kept[entry] = self._summaries.forget(",
        "self._summaries.forget(",
        of("runtime/test_routing_state", "test_any_history_selects_as_from_scratch"),
    ),
    Mutant(
        "groups keep what was taken back",
        SUMMARIES,
        "x[entry][:, touched.get(name[:2], slice(None))] = self.nothing(name)",
        "x[entry][:, touched.get(name[:2], slice(None))] *= 1",
        of("runtime/test_routing_state", "test_any_history_selects_as_from_scratch"),
    ),
    Mutant(
        "beams keep the keys of their place",
        ROUTING_STATE,
        "self._summaries = self._summaries.entries(chosen)",
        "self._summaries = self._summaries.entries(torch.arange(len(chosen)))",
        of("runtime/test_routing_state", "test_any_history_selects_as_from_scratch"),
    ),
    Mutant(
        "missing pages are of groups",
        ROUTING_STATE,
        "present = present if exists is None else present & exists",
        "present = present if there is None else present",
        of("runtime/test_routing_state", "test_missing_pages_are_of_no_group"),
    ),
    Mutant(
        "the state of another pattern",
        ROUTING_STATE,
        "if compiled.handle != self._compiled.handle:",
        "if compiled.signature != self._compiled.signature:",
        of("runtime/test_routing_state", "test_mistakes"),
    ),
    # Selection by routes
    Mutant(
        "ties all selected",
        "codegen/selectors.py",
        "return above | (equal & (equal.cumsum(dim=-1) <= room))",
        "return above | equal",
        of("runtime/test_finding", "test_best"),
    ),
    Mutant(
        "one more than reaches the mass",
        "codegen/selectors.py",
        "(after - others < mass * whole)",
        "(after - others <= mass * whole)",
        of("runtime/test_exactly", "test_rules_of_selection"),
    ),
    Mutant(
        "groups without tokens are selected",
        "codegen/scores.py",
        "x if keys is None else x & keys.unsqueeze(-2)",
        "x",
        of("runtime/test_exactly", "test_a_ragged_group_and_one_without_tokens"),
    ),
    Mutant(
        "roots are means",
        "codegen/routing.py",
        "sizes.clamp(min=1).sqrt()",
        "sizes.clamp(min=1)",
        of("runtime/test_finding", "test_groups_without_tokens_and_empty_pools"),
    ),
)
