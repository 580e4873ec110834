"""Habits from FlexAttention, SDPA, FlashAttention, NATTEN and NumPy, and what the help of their error has to say."""

import re
from collections.abc import Callable

import pytest

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.habits import ARGUMENTS, DIMENSIONS, NAMES
from maskdsl.base.source import Source
from maskdsl.bind.expression.functions import FUNCTIONS
from maskdsl.syntax.parse import parse_statement

PACKED = """pattern packed(n = 64, size = 16) {
    space tokens[n]
    input document: int[tokens]
    attend causal and backward(size) and same(document)
}
"""
PLAIN = "pattern plain(n = 64, sizes = (4, 8)) {{ space tokens[n]\n    {}\n}}\n"

TEXTS = {
    "attend q_idx >= k_idx": ("did you mean `q`?", "did you mean `k`?"),
    "attend q >= kv_idx": ("did you mean `k`?",),
    "attend backward(4 if h == 0 else 8)": ("did you mean `head`?",),
    "attend b == 0": ("did you mean `batch`?",),
    "attend causal score score * 2": ("did you mean `s`?",),
    "attend backward(1 << head)": ("write `2 ** n` for `1 << n`",),
    "attend q >> 2 == k >> 2": ("write `// 4` for `>> 2`",),
    "attend same(document)": ("declare it: `input document: int[tokens]`",),
    "attend q.document == k.document": ("declare it: `input document: int[tokens]`",),
    "attend document[q] == document[k]": ("`input document: int[tokens]`", "read it as `q.document`"),
    "attend causal score s + bias[q - k]": ("such as `input bias: float[64]`",),
    "input document: int\n    attend same(document)": (
        "4:17",
        "`document` has no dimensions",
        "declare `input document: int[tokens]`",
    ),
    "input document: int[seq] attend same(document)": (
        "did you mean `tokens`?",
        "`key_heads`, `tokens`, `queries`, `keys`",
    ),
    "mask causal": ("did you mean `attend`?", "a statement begins with `assert`, `attend`, `branch`, `coord`"),
    "causal": ("a statement begins with `assert`, `attend`",),
    "attend causal scale = 0.5": ("`scale` has its value right behind it, without `=`",),
    "attend causal && true": ("write `and`",),
    "attend sliding_window(8)": ("did you mean `window`?",),
}


@pytest.mark.parametrize("text", TEXTS)
def test_habits_of_texts(text: str) -> None:
    with pytest.raises(AttnError) as raised:
        maskdsl.parse(PLAIN.format(text).replace("space tokens[n]\n", "space tokens[n]\n\n"))["plain"].bind(heads=2)
    assert all(each in str(raised.value) for each in TEXTS[text]), raised.value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def near(q, k): return q >= k", "write `def near(size) = abs(q - k) < size`"),
        ("def near(q, k) = q >= k\n" + PLAIN.format("attend near"), "`q` itself can be read without a declaration"),
        ("causal_mask(n)", "a declaration begins with `def`, `pattern`, `stack` or `use`"),
    ],
)
def test_habits_of_declarations(text: str, said: str) -> None:
    with pytest.raises(AttnError) as raised:
        maskdsl.parse(text)["plain"].bind()
    assert said in str(raised.value)


PACKED_MODULE = maskdsl.parse(PACKED)
MASK = PACKED_MODULE["packed"].bind(heads=4)

GIVEN: dict[str, tuple[Callable[[], object], str]] = {
    "mask.dense()": (lambda: MASK.dense(), "give it by its name in this call: document=..."),
    "mask.stats()": (lambda: MASK.stats(), "document=..."),
    "mask.tiles()": (lambda: MASK.tiles(), "document=..."),
    "mask(q, k, v)": (lambda: MASK(1, 2, 3), "mask.compile()"),
    "bind(64)": (lambda: PACKED_MODULE["packed"].bind(64), "by name, such as n=64"),
    "bind(m=64)": (lambda: PACKED_MODULE["packed"].bind(m=64), "its parameters are `n`, `size`"),
    "bind(n=1e6)": (lambda: PACKED_MODULE["packed"].bind(n=1e6), "without a point or exponent: n=1000000"),
    "bind(n='64')": (lambda: PACKED_MODULE["packed"].bind(n="64"), "give the number itself: n=64"),
    "module.packed": (lambda: PACKED_MODULE.packed, 'such as module["packed"]'),
    "parse of a path": (lambda: maskdsl.parse("tree.attn"), "maskdsl.load('tree.attn')"),
    "with_order": (lambda: MASK.with_order("hilbert"), '"by hilbert(y, x)"'),
}


@pytest.mark.parametrize("call", GIVEN)
def test_habits_of_calls_without_tensors(call: str) -> None:
    with pytest.raises(AttnError) as raised:
        GIVEN[call][0]()
    assert GIVEN[call][1] in str(raised.value)


def test_tiles_take_one_number() -> None:
    document = [0] * 64
    assert MASK.tiles(block=32, document=document) == MASK.tiles(block=(32, 32), document=document)


def call(name: str) -> None:
    """A call of PyTorch's attention, or of another one, on a small mask."""
    torch = pytest.importorskip("torch")
    q, one = torch.rand(2, 4, 64, 8), torch.rand(2, 4, 1, 8)
    attention = maskdsl.parse(PLAIN.format("attend causal"))["plain"].bind(heads=4).compile()
    packed, turned = MASK.compile(), q.transpose(1, 2)
    {
        "transposed": lambda: attention(turned, turned, turned),
        "transposed, any length": lambda: maskdsl.parse(PLAIN.format("attend causal"))["plain"].compile(heads=4)(
            turned, turned, turned
        ),
        "decoding": lambda: attention(one, q, q),
        "another length": lambda: attention(q[:, :, :50], q[:, :, :50], q[:, :, :50]),
        "rows of documents": lambda: packed(q, q, q, document=torch.zeros(2, 64, dtype=torch.long)),
        "no document": lambda: packed(q, q, q),
        "ints": lambda: attention(one, q, q, query_start=40, key_lengths=41),
        "positions": lambda: attention(one, q, q, query_start=40, key_lengths=torch.zeros(3, dtype=torch.long)),
        "nearly an input": lambda: packed(q, q, q, documents=torch.zeros(64, dtype=torch.long)),
    }.get(name, lambda: attention(q, q, q, **{name: None}))()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *((name, advice) for name, advice in ARGUMENTS.items()),
        ("transposed", "these look transposed: give q, k and v as [batch, heads, tokens, head dim]"),
        ("transposed, any length", "these look transposed"),
        ("decoding", "give `query_start=...`"),
        ("another length", 'bind it with n=50, or take tensors of any length: pattern.compile(follow="n")'),
        ("rows of documents", "declare `input document: int[batch, tokens]`"),
        ("no document", "document=..."),
        ("positions", "`query_start` and `key_lengths` are a number or [batch]"),
        ("nearly an input", "did you mean `document`?"),
    ],
)
def test_habits_of_calls(name: str, said: str) -> None:
    with pytest.raises(AttnError) as raised:
        call(name)
    assert said in str(raised.value)


def test_key_lengths_may_be_one_number() -> None:
    call("ints")


@pytest.mark.parametrize(
    "line",
    [
        each
        for advice in ARGUMENTS.values()
        for each in re.findall(r"`((?:attend|score|input|require) [^`.]*)`", advice)
    ],
)
def test_lines_that_are_advised_are_lines_of_the_language(line: str) -> None:
    parse_statement(Source("advice", line))


def test_names_of_other_libraries_are_none_of_ours() -> None:
    assert not NAMES.keys() & {*NAMES.values(), *FUNCTIONS} and not DIMENSIONS.keys() & {*DIMENSIONS.values()}
