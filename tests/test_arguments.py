"""Every public function and method takes wrong kinds of arguments for declared errors, and says what is expected."""

import inspect
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.base.diagnostics import shown
from tests.support.public_functions import GIVEN, TEXT, public

WRONG = [
    *(None, 3, -1, 0, 1.5, True, "x", "", b"x", [], [1], (1,), (1.5, 4), {}, object(), 10**10000, float("nan")),
    *(np.int64(99), np.zeros(2), torch.ones(2), torch.ones(2, 3, 4), [torch.ones(1)], torch.ones(2).to_sparse()),
]


def test_wrong_kinds_of_arguments() -> None:
    failures = []
    for name, function in public().items():
        parameters = inspect.signature(function).parameters.values()
        plain = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
        needed = {each.name: GIVEN.get(each.name, 1) for each in plain if each.default is each.empty}
        for parameter in plain:
            for value in WRONG:
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        called(function, {**needed, parameter.name: value})
                except maskdsl.AttnError as error:
                    assert len(str(error)) < 5000
                except Exception as error:
                    failures.append(f"{name}({parameter.name}={shown(value)}): {type(error).__name__}: {error!s:.80}")
    assert not failures, "\n".join(failures)


def called(function: Callable[..., object], given: dict[str, object]) -> None:
    kinds = inspect.signature(function).parameters
    by_position = [name for name in given if kinds[name].kind is inspect.Parameter.POSITIONAL_ONLY]
    function(*(given.pop(name) for name in by_position), **given)


MASK = maskdsl.parse("pattern p(n = 8) { space t[n] attend causal }")["p"].bind()
X = torch.randn(1, 1, 8, 4)
PACKED = X[0].transpose(0, 1)
NESTED = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(3, 4)])
CALLS = {
    "no head dimension": (lambda a: a(X[..., :0], X[..., :0], X), "E309"),
    "no value dimension": (lambda a: a(X, X, X[..., :0]), "E309"),
    "layout": (lambda a: a(X, X, X, layout=3), "E460.*`layout` is 3"),
    "return_lse": (lambda a: a(X, X, X, return_lse="yes"), "E460.*give True or False"),
    "debug": (lambda a: a(X, X, X, debug=3), "E460"),
    "nested": (lambda a: a(NESTED, NESTED, NESTED), "E308.*nested.*varlen"),
    "sparse": (lambda a: a(X, X, X.to_sparse()), "E308.*`v` is a sparse"),
    "packed and sparse": (lambda a: a.varlen(PACKED.to_sparse(), PACKED, PACKED, [0, 8]), "E308"),
    "ends of no integers": (lambda a: a.varlen(PACKED, PACKED, PACKED, [0.0, 8.0]), "E431"),
    "ends as a number": (lambda a: a.varlen(PACKED, PACKED, PACKED, 8), "E310"),
    "two missing": (lambda a: a(X), "E415.*`k` is not a tensor but not given.*`v`"),
    "ends missing": (lambda a: a.varlen(PACKED, PACKED, PACKED), "E415.*cu_seqlens_q.*not given"),
    "bad ends alone": (lambda a: a.varlen(PACKED, PACKED, PACKED, [0, 9]), "E440(?!.*cu_seqlens_k)"),
    "ends of two axes alone": (lambda a: a.varlen(PACKED, PACKED, PACKED, [[0, 8]]), "E439(?!.*cu_seqlens_k)"),
    "routing state": (lambda a: a(X, X, X, routing_state=3), "E460.*`routing_state` is 3"),
    "dropout": (lambda a: a(X, X, X, dropout_p=np.zeros(2)), "E499.*`dropout_p`"),
    "a flag for dropout": (lambda a: a(X, X, X, dropout_p=False), "E499.*`dropout_p` is False"),
    "a seed alone": (lambda a: a(X, X, X, seed="7"), "E499.*`seed`"),
    "dropout of sequences": (lambda a: a.varlen(PACKED, PACKED, PACKED, [0, 8], dropout_p=torch.ones(2)), "E499"),
    "no axes of heads": (lambda a: a(X[0, 0], X[0, 0], X[0, 0], query_start=0), "E401.*`q`.*`k`.*`v`"),
    "a table of one axis": (lambda a: a(X, X, X, page_table=[0]), r"E432.*`page_table` has the shape \(1,\)"),
    "a table of no axis": (lambda a: a(X, X, X, page_table=0), "E432.*`page_table`"),
    "starts": (lambda a: a.varlen(PACKED, PACKED, PACKED, [0, 8], query_start=object()), "E415"),
}


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str, backend: str) -> None:
    call, expected = CALLS[name]
    with pytest.raises(maskdsl.AttnError, match=f"(?s){expected}"):
        call(MASK.compile(backend))


def test_lists_are_ends_of_sequences() -> None:
    attention = MASK.compile()
    whole, first = attention.varlen(PACKED, PACKED, PACKED, [0, 3, 8]), attention.varlen(*[PACKED[:3]] * 3, [0, 3])
    torch.testing.assert_close(whole[:3], first)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: maskdsl.parse("tree.attn"), r"E311.*maskdsl.load\('tree.attn'\)"),
        (lambda: maskdsl.load(3), "E460.*`path` is 3.*give a path"),
        (lambda: maskdsl.parse(TEXT)["p"].bind(64), r"E461.*bind\(\*, heads=1.*by name, such as n=64"),
        (lambda: maskdsl.parse(TEXT).p, r'E464.*module\["p"\]'),
        (lambda: maskdsl.parse(TEXT).zzz, r'E464.*module\["p"\]; this module has `p`, `two`'),
        (lambda: MASK(X, X, X), "E463.*mask.compile"),
        (lambda: MASK.pattern(X, X, X), r"E463.*pattern.bind\(...\).compile"),
        (lambda: MASK.dense(head=9), "E462.*there is no head 9.*0 to 0"),
        (lambda: MASK.dense(head=-1), "E460"),
        (lambda: maskdsl.from_mask_mod(lambda b, h, q, k: 3, 5), "E640.*returns int64"),
        (lambda: maskdsl.from_mask_mod(lambda b, h, q, k: None, 5), "E640.*returns None"),
        (lambda: maskdsl.from_mask_mod(lambda b, h, q, k: (q - k) * -1e9, 5), "E640.*returns float32"),
        (lambda: MASK.tiles().classes(head=99), "E462.*there is no head 99.*0 to 0"),
        (lambda: MASK.tiles(block=(1.5, 4)), "E460"),
        (lambda: MASK.compile(3), "E460.*`backend`"),
    ],
)
def test_what_is_said(call, expected: str) -> None:
    with pytest.raises(maskdsl.AttnError, match=f"(?s){expected}"):
        call()


def test_what_is_taken() -> None:
    assert MASK.tiles(block=4).block == MASK.tiles(block=(4, 4)).block == MASK.tiles(np.array([4, 4])).block == (4, 4)
    assert maskdsl.parse(TEXT)["p"].bind(heads=np.int64(2), n=np.int32(4)).heads == 2
    with pytest.raises(AttributeError):
        _ = maskdsl.parse(TEXT).zzz
    assert not hasattr(maskdsl.parse(TEXT), "p") and callable(MASK.compile)
