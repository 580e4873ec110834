"""Helpers of generated torch modules. A module holds only those that it calls."""

import math
from functools import partial
from threading import Lock

import torch

from maskdsl.codegen.tiled import attended, block


def read(table, *indices):
    """`table[indices]`, each index clamped to the table: pairs that do not attend may have any index."""
    indices = [torch.as_tensor(index, device=table.device) for index in indices]
    indices = [index.clamp(0, size - 1) for index, size in zip(indices, table.shape, strict=True)]
    if any(index.dim() for index in indices):  # torch would wait for the device to read one number
        indices = [index if index.dim() else index.view(1) for index in indices]
    differ = any(index.dim() and index.shape[-1] > 1 for index in indices[:-1])
    if type(table) is not torch.Tensor or len(indices) < 2 or not indices[-1].dim() or differ:
        return table[tuple(indices)]
    # Only the last index differs along the keys: a gather along rows of the table takes a third of the time.
    *rows, last = indices
    lines = table[tuple(row.squeeze(-1) if row.dim() > 1 else row for row in rows)]
    shape = torch.broadcast_shapes(lines.shape[:-1], last.shape[:-1])
    return lines.expand(*shape, -1).gather(-1, last.expand(*shape, -1))


def read_open(table, *indices):
    """`table[indices]`, NaN where an index is outside: of pairs that attend only, if the table is an `Attended`."""
    indices = [torch.as_tensor(index, device=table.device) for index in indices]
    inside = torch.ones((), dtype=torch.bool, device=table.device)
    for index, size in zip(indices, table.shape, strict=True):
        inside = inside & (index >= 0) & (index < size)
    attends = getattr(table, "attends", None)
    values = table[tuple(index.clamp(0, size - 1) for index, size in zip(indices, table.shape, strict=True))]
    return torch.where(inside if attends is None else inside | ~attends, values, torch.nan)


def find_entry(entries, *indices):
    """The number of the entry at a row and a column, the last two indices, by a binary search in the row; -1 if none.

    `entries` are integers [..., 2 + rows + 1 + most]: the number of rows, the steps of a search, where the columns of
    each row start, and the columns.
    """
    *front, row, column = (torch.as_tensor(index, device=entries.device) for index in indices)
    first = 0
    for index, size in zip(front, entries.shape, strict=False):
        first = first * size + index.clamp(0, size - 1)
    first, flat, last = first * entries.shape[-1] + 2, entries.reshape(-1), entries.numel() - 1
    rows = flat[0]
    steps = entries.shape[-1].bit_length() if torch.compiler.is_compiling() else int(flat[1])
    inside = (row >= 0) & (row < rows)
    start = first + torch.minimum(row.clamp(min=0), rows - 1)
    low, end, columns = flat[start], flat[start + 1], first + rows + 1
    high = end
    for _ in range(steps):
        middle = (low + high) // 2
        below = (low < high) & (flat[(columns + middle).clamp(max=last)] < column)
        low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
    stored = inside & (low < end) & (flat[(columns + low).clamp(max=last)] == column)
    return torch.where(stored, low, -1)


def nonzero(divisor):
    """1 in place of 0, by which integer division traps. Only tokens that lack the divisor's coordinate have 0."""
    return divisor.masked_fill(divisor == 0, 1)


def rounded(number, dtype):
    """The number rounded into the range of a float dtype: infinity beyond it."""
    largest, step = torch.finfo(dtype).max, torch.finfo(dtype).eps
    if abs(number) >= largest * (1 + step / 4):
        return number * float("inf")
    return max(-largest, min(number, largest))


def integers(whole):
    """The 64-bit integers nearest to float64 numbers without fraction; 0 of NaN."""
    limits = torch.where(whole > 0, 2**63 - 1, -(2**63))
    inside = whole.abs() < 2.0**63
    return torch.where(inside, whole.masked_fill(~inside, 0).long(), limits.masked_fill(whole.isnan(), 0))


def join(*spaces):
    """Concatenates the values of spaces along tokens; batch and head axes broadcast."""
    leading = torch.broadcast_shapes(*(values.shape[:-1] for values in spaces))
    return torch.cat([values.expand(*leading, values.shape[-1]) for values in spaces], dim=-1)


def integer_log2(x):
    """floor(log2(x)) of integers, exact; -1 for x < 1."""
    result = torch.where(x < 1, -1, 0)
    for shift in (32, 16, 8, 4, 2, 1):
        large = x >= 1 << shift
        result = result + shift * large
        x = torch.where(large, x >> shift, x)
    return result


def is_power_of_two(x):
    """Whether integers are powers of two."""
    return (x > 0) & (x & (x - 1) == 0)


def gcd(a, b):
    """The greatest integer that divides both; 0 of two zeros."""
    return torch.gcd(torch.as_tensor(a), torch.as_tensor(b))


def random(*numbers):
    """Pseudo-random integers in [0, 2**31), a hash of the low 32 bits of each number: docs/language.md specifies it."""
    state = torch.tensor(0)
    for number in numbers:
        state = ((state ^ (torch.as_tensor(number) & 0xFFFFFFFF)) + 0x1E3779B9) & 0xFFFFFFFF
        state = state ^ (state >> 16)
        state = (state * 0x7FEB352D) & 0xFFFFFFFF
        state = state ^ (state >> 15)
        state = (state * 0x45D9F3B) & 0xFFFFFFFF
        state = state ^ (state >> 16)
    return state >> 1


def token_value(values, batch, head, token):
    """The value of one token, from values [batch or 1, heads or 1, tokens] or fewer axes. All indices are tensors."""
    values = values.view(*(1,) * (3 - values.dim()), *values.shape)
    first = torch.zeros_like(token)
    return values[batch if values.shape[0] > 1 else first, head if values.shape[1] > 1 else first, token]


def counted_weight(weights, p):
    """The weights, 0 where p is 0: an infinite weight would make NaN of 0 * inf."""
    return weights.masked_fill(p == 0, 0)


def finite_weight(weights, p):
    """The weights, 0 where p is 0 and they are not finite: the derivative of a product by p, and no NaN of 0 * inf."""
    return torch.where((p == 0) & ~weights.isfinite(), 0, weights)


def with_fixed(problem, tile, names, fixed, allowed, read):
    """The arguments of functions of scores, with the values of `fixed`, which positions decide: of all calls alike.

    `names` are theirs, `read` is what `fixed` and `allowed` read.
    """
    values = problem.pair_values(tile, tile.columns)

    def make():
        attends = allowed(**values)
        return [in_fewest_bytes(of_one_row(x, attends)) for x in fixed(**values)]

    kept = make() if tile.mask_key is None else problem.keep(tile, read, "fixed", make)
    return values | {name: x if x.dtype == torch.bool else x.long() for name, x in zip(names, kept, strict=True)}


def of_one_row(x, attends):
    """One row of x, [rows, heads or 1, queries, keys], if it has the values of all pairs that attend; else x."""
    least = torch.where(attends, x, False if x.dtype == torch.bool else torch.iinfo(x.dtype).min)
    one = least.amax(dim=0, keepdim=True)
    return one.where(attends.any(dim=0, keepdim=True), 0).to(x.dtype) if bool((attends <= (x == one)).all()) else x


def in_fewest_bytes(x):
    """Integers in the smallest type that holds them."""
    if x.dtype == torch.bool or not x.numel():
        return x
    low, high = x.aminmax()
    types = (torch.int8, torch.int16, torch.int32, torch.int64)
    return x.to(next(each for each in types if torch.iinfo(each).min <= low and high <= torch.iinfo(each).max))


class Attended:
    """A table that reads 0 for pairs that do not attend, so that they contribute nothing to its gradient."""

    def __init__(self, table, attends):
        self.table, self.attends = table, attends
        self.shape, self.device = table.shape, table.device

    def __getitem__(self, indices):
        return torch.where(self.attends, self.table[indices], 0)


def guarded(values, inputs, attends):
    """The values for scores and weights, with floats zeroed for pairs that do not attend."""
    safe = dict(values)
    for name, value in values.items():
        if value.is_floating_point():
            safe[name] = Attended(value, attends) if name in inputs else torch.where(attends, value, 0)
    return safe


class Leaves:
    """The values that scores and weights of a tile read, with float inputs as leaves of the tile's autograd graph.

    `gradients` are the accumulators of float inputs by (source, name), the source one of queries, keys and inputs.
    """

    lock = Lock()

    def __init__(self, problem, tile, shape, limits, gradients):
        self.limits, self.columns = limits, tile.group.partial
        self.leaves, self.excluded = [], None
        self.values = problem.score_values(tile)
        for (source, name), gradient in gradients.items():
            if source == "inputs":
                self.values[name] = Leaf(self.leaves, shape, problem.inputs[name], gradient)
            else:
                side, add = ("q", tile.add_to_queries) if source == "queries" else ("k", tile.add_to_keys)
                value = self.values[f"{side}_{name}"]
                self.values[f"{side}_{name}"] = self.take(self.leaves, shape, value, partial(add, gradient))

    @staticmethod
    def take(leaves, shape, values, add):
        """The values expanded to one leaf element a pair; `add` is called with the gradient of the values."""
        leaf = values.detach().expand(shape).requires_grad_()
        leaves.append((leaf, values.shape, add))
        return leaf

    def exclude(self, s):
        """Excludes pairs whose score is -inf from gradients, as those that do not attend."""
        excluded = s == -torch.inf
        self.excluded = excluded if bool(excluded.any()) else None

    def counted(self, grad):
        """The gradient of pairs, in place 0 for those that do not attend or are excluded: theirs may be NaN."""
        grad = block(grad.contiguous(), self.limits, self.columns, 0)
        return grad if self.excluded is None else grad.masked_fill_(self.excluded, 0)

    def backward(self, start, *ends):
        """Backpropagates `ends`, pairs (value, gradient): adds to the inputs' gradients, returns that of `start`."""
        ends = [(value, self.counted(grad)) for value, grad in ends if value.requires_grad]
        if not ends:
            return torch.zeros_like(start)
        values, grad_values = zip(*ends, strict=True)
        leaves = [start, *(leaf for leaf, *_ in self.leaves)]
        grads = torch.autograd.grad(values, leaves, grad_values, allow_unused=True)
        with self.lock:
            for (_, shape, add), grad in zip(self.leaves, grads[1:], strict=True):
                if grad is not None:
                    add(self.counted(grad).sum_to_size(shape))
        return torch.zeros_like(start) if grads[0] is None else self.counted(grads[0])


class Leaf:
    """A table whose elements are leaves where a tile reads them. The `Leaves` hold it, so it does not hold them."""

    def __init__(self, leaves, pairs, table, gradient):
        self.leaves, self.pairs, self.table, self.gradient = leaves, pairs, table, gradient
        self.shape, self.device = table.shape, table.device

    def __getitem__(self, indices):
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        start = torch.zeros((), dtype=torch.int64, device=self.device)
        flat = sum((index * stride for index, stride in zip(indices, strides, strict=True)), start)
        add = partial(add_to_table, flat, self.gradient)
        return Leaves.take(self.leaves, self.pairs, self.table.view(-1)[flat], add)


def add_to_table(indices, gradient, grad):
    gradient.view(-1).index_add_(0, indices.reshape(-1), grad.reshape(-1).to(gradient.dtype))


def with_sinks(out, m_i, l_i, sinks):
    """The output, in place, m_i and l_i of keys and sinks, from those of the keys. A sink is a key of value zero.

    All tensors but the output are [..., queries, 1]. A query with neither has m_i = -inf and l_i = 1.
    """
    new_m = torch.stack([m_i, *sinks]).amax(dim=0).clamp_(min=torch.finfo(m_i.dtype).min)
    old = l_i * (m_i - new_m).exp_()
    l_i = old + sum((sink - new_m).exp_() for sink in sinks)
    empty = l_i == 0
    l_i = l_i.masked_fill_(empty, 1)
    return out.mul_(old / l_i), new_m.masked_fill_(empty, -torch.inf), l_i


def sink_gradient(sink, norms, delta):
    """The gradient of the score of a sink. The `norms` are subtracted from scores, so that p = exp(s)."""
    for norm in norms:
        sink = sink - norm
    return sink.exp() * -delta


def factor_of_output(factor, out):
    """The factors [..., queries, 1] of an output: its zeros stay zero where theirs are not finite."""
    if factor.device.type == "cpu" and bool(factor.isfinite().all()):
        return factor
    return torch.where((out == 0) & ~factor.isfinite(), 0, factor)


def factor_gradient(problem, out, dots, grad_out, factor):
    """The gradient of the factors of outputs, from rowsum(out * grad_out), in which they are.

    Whether it is a quotient depends on the factors alone: outputs without vectors that values add, and the masses of
    these, have to go the same way. Zeros of outputs send none, even if their gradient is NaN.
    """
    size, most = factor.abs(), 2**6 if problem.q.dtype == torch.float16 else 2**60
    if bool(((size >= 1 / most) & (size <= most)).all()):
        if not bool(dots.isfinite().all()):
            dots = (grad_out.to(problem.dtype) * out).masked_fill_(out == 0, 0).sum(dim=-1, keepdim=True)
        return dots / factor
    out, _, _ = attended(problem, True)  # the output has lost digits that the quotient would need
    return (grad_out * out).masked_fill_(out == 0, 0).sum(dim=-1, keepdim=True)
