"""Numbers that are no sizes, and sizes of no machine, are declared errors wherever integers are taken, and at once."""

import inspect
from collections.abc import Callable, Iterator

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import maskdsl
from maskdsl.api.verify import verify
from maskdsl.base.diagnostics import shown
from maskdsl.cli.app import app
from maskdsl.nn import SelfAttention
from tests.support.public_functions import GIVEN, public

SIZES = [0, -1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30, 10**10000, True, 1.5, float("nan"), float("inf")]
TEXT = """
pattern local(n = 8, size = 3) { space t[n] attend causal and backward(size) }
pattern routed(n = 8) {
    space t[n]
    coord c = i // 2
    route best = topk(1, dot(q, mean(k by c)))
    attend best and causal
}
"""
PATTERN, ROUTED = maskdsl.parse(TEXT)["local"], maskdsl.parse(TEXT)["routed"].bind().compile("tiled")
X, PAGES, PACKED = torch.randn(1, 1, 8, 4), torch.randn(4, 1, 2, 4), torch.randn(8, 1, 4)
ONE, TABLE = X[:, :, :1], torch.tensor([[0, 1, 2, 3]])
CALLS: dict[str, Callable[[maskdsl.Attention, object], object]] = {
    "query_start": lambda a, n: a(ONE, X, X, query_start=n),
    "query_starts": lambda a, n: a(ONE, X, X, query_start=[n]),
    "key_lengths": lambda a, n: a(ONE, X, X, query_start=7, key_lengths=[n]),
    "page_size": lambda a, n: a(ONE, PAGES, PAGES, query_start=7, page_table=TABLE, page_size=n),
    "page_size without pages": lambda a, n: a(ONE, X, X, page_size=n),
    "page_table": lambda a, n: a(ONE, PAGES, PAGES, query_start=7, page_table=[[n, 1, 2, 3]]),
    "last end": lambda a, n: a.varlen(PACKED, PACKED, PACKED, [0, n]),
    "first end": lambda a, n: a.varlen(PACKED, PACKED, PACKED, [n, 8]),
    "ends of keys": lambda a, n: a.varlen(PACKED, PACKED, PACKED, [0, 8], [0, n]),
    "starts": lambda a, n: a.varlen(PACKED, PACKED, PACKED, [0, 8], query_start=[n]),
    "append": lambda a, n: ROUTED.routing_state().append(X, [n]),
    "update": lambda a, n: ROUTED.routing_state().update(X, [n]),
    "truncate": lambda a, n: ROUTED.routing_state().truncate([n]),
    "reorder": lambda a, n: ROUTED.routing_state().reorder([n]),
    "features": lambda a, n: SelfAttention(n, 2, PATTERN, device="meta"),
    "heads of a layer": lambda a, n: SelfAttention(8, n, PATTERN, device="meta"),
    "key heads of a layer": lambda a, n: SelfAttention(8, 2, PATTERN, key_heads=n, device="meta"),
    "head dimension of a layer": lambda a, n: SelfAttention(8, 2, PATTERN, head_dim=n, device="meta"),
    "rotary base": lambda a, n: SelfAttention(8, 2, PATTERN, rope=n, device="meta"),
    "tokens": lambda a, n: PATTERN.bind(n=n),
    "window": lambda a, n: PATTERN.bind(size=n),
    "window of a following attention": lambda a, n: PATTERN.compile(size=n)(X, X, X),
    "heads of a following attention": lambda a, n: PATTERN.compile(heads=n)(X, X, X),
    "cases": lambda a, n: verify(PATTERN, cases=n) if n not in (2**31 - 1, True) else None,
    "entry": lambda a, n: maskdsl.from_dense(np.ones((4, 4), bool), grid=(n, n)),
}
NEVER = {
    *(("page_size", each) for each in map(str, (0, -1, 2**31 - 1, True))),
    *(("starts", each) for each in map(str, (-1, 2**31, 2**63 - 1))),
    *((name, each) for name in ("append", "update") for each in map(str, (-1, 2**31, 2**63 - 1))),
    ("truncate", "-1"),
    *(("features", each) for each in map(str, (0, 2**31, True))),
}
"""What must be an error, of what some calls may take."""


def failures(called: Callable[[object], object]) -> Iterator[tuple[str, str]]:
    """What raises anything but declared errors, or is taken, and what happens then."""
    for number in SIZES:
        try:
            called(number)
        except maskdsl.AttnError as error:
            assert len(str(error)) < 5000
        except Exception as error:
            yield shown(number), f"{type(error).__name__}: {error!s:.80}"
        else:
            yield shown(number), "taken"


@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_calls(backend: str) -> None:
    attention = PATTERN.bind().compile(backend)
    found = {(name, *each) for name, call in CALLS.items() for each in failures(lambda n: call(attention, n))}  # noqa: B023
    assert not {each for each in found if each[2] != "taken"}
    assert not {each[:2] for each in found} & NEVER


def test_every_public_integer() -> None:
    wrong = []
    for name, function in public().items():
        parameters = inspect.signature(function).parameters.values()
        plain = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
        needed = {each.name: GIVEN.get(each.name, 1) for each in plain if each.default is each.empty}
        for each in (each for each in plain if "int" in str(each.annotation).split("[")[0]):
            for number, what in failures(lambda n: function(**{**needed, each.name: n})):  # noqa: B023
                if what != "taken" or number in ("True", "1.5", "nan", "inf", shown(10**10000), str(10**30)):
                    wrong.append(f"{name}({each.name}={number}): {what}")
    assert not wrong, "\n".join(wrong)


def numbers() -> Iterator[tuple[str, str, bool]]:
    """Every option of every command that takes a number, and whether floats will do."""
    for name, command in app.commands.items():
        for each in command.params:
            kind = each.type.name.partition(" ")[0]
            if isinstance(each, click.Option) and kind in ("integer", "float"):
                yield name, each.opts[0], kind == "float"


def test_every_option(tmp_path) -> None:
    file = tmp_path / "local.attn"
    file.write_text("pattern local(n = 8) { space t[n] attend causal }\n")
    extremes = ["-1", "9" * 20, "1.5", "nan"]
    for command, option, takes_floats in numbers():
        for number in extremes:
            if number == "1.5" and takes_floats:
                continue
            words = [command, str(file), option, number, *(["--watch"] if option == "--port" else [])]
            result = CliRunner().invoke(app, words)
            declared = isinstance(result.exception, maskdsl.AttnError | SystemExit)
            assert declared and result.exit_code, (command, option, number[:40], result.exception)
