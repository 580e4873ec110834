"""Loads by tensor descriptors: right in the interpreter, and what calls take where loops are shorter so."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from ahead import Compiled, compile_choice, machine_code
from assembly import loop_texts, tile_loops

import maskdsl
from maskdsl.analysis.cost.descriptors import with_descriptors
from maskdsl.analysis.cost.tile_table import LAST, Architecture, KernelName, TileChoice, ladder
from maskdsl.codegen.forward import describe
from maskdsl.emit.plan import KernelPlan, make_plan
from maskdsl.runtime.backends.tile_choice import choices_of
from maskdsl.runtime.backends.triton_backend import uses_descriptors
from tests.support.interpreting import last_line

EXAMPLES = Path(__file__).parents[2] / "examples"
COPIES, ASYNCHRONOUS = re.compile(r"\bUTMALDG\b"), re.compile(r"\bLDGSTS\b")
FORWARD, QUERY, KEY = KernelName
WIDE, TALL = TileChoice(128, 64, 8, 3), TileChoice(128, 64, 8, 2)


@cache
def plan(name: str) -> KernelPlan:
    """Of an example of the language, in a file of its name."""
    pattern = maskdsl.load(EXAMPLES / "language" / f"{name}.attn")["causal_dense" if name == "causal" else name]
    return make_plan(pattern.bind(heads=4).ir)


def compiled(name: str, target: str, dim: int, kernel: KernelName, choice: TileChoice) -> Compiled:
    return compile_choice(plan(name), target, (dim, dim), torch.bfloat16, kernel, choice, False)


def instructions(kernel: Compiled) -> list[int]:
    """Of the loops over full and over partial tiles."""
    return [each.instructions for each in tile_loops(machine_code(kernel))]


def test_results() -> None:
    """Ragged lengths, views, grouped heads, other value dims; odd strides and addresses, and chunks, without them."""
    assert last_line("triton.descriptors") == "agreed"


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16)


def layouts(dim: int) -> dict[str, torch.Tensor]:
    """[batch, heads, tokens, dim], which descriptors can have."""
    return {
        "contiguous": empty(3, 5, 7, dim),
        "tokens first": empty(3, 7, 5, dim).transpose(1, 2),
        "q, k, v in one": empty(3, 7, 3, 5, dim)[:, :, 1].transpose(1, 2),
        "some heads": empty(3, 10, 7, dim)[:, 5:],
        "every third token": empty(3, 5, 21, dim)[:, :, ::3],
        "one head and token of odd rows": empty(3, 1, 7, dim + 8)[:, :, :1, :dim],
    }


@pytest.mark.parametrize("dim", [64, 40, 128, 256])
def test_layouts_that_descriptors_have(dim: int) -> None:
    """They say the real number of tokens and dims: the GPU gives zeros behind them, never what lies there."""
    for name, x in layouts(dim).items():
        descriptor = describe(x, 64, True)
        assert descriptor is not None, name
        assert descriptor.shape == [*x.shape]
        assert descriptor.block_shape == [1, 1, 64, 1 << (dim - 1).bit_length()]
        axes = zip(descriptor.strides, x.stride(), x.shape, strict=True)
        assert all(one == other for one, other, size in axes if size > 1), name


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(empty(2, 3, 7, 20), id="rows of 40 bytes"),
        pytest.param(empty(2, 3, 7, 72)[..., 4:68], id="addresses"),
        pytest.param(empty(2, 3, 7, 65)[..., :64], id="odd strides"),
        pytest.param(empty(2, 1, 7, 64).expand(2, 3, 7, 64), id="one head for all"),
        pytest.param(empty(2, 3, 7, 192), id="chunks"),
        pytest.param(empty(2, 3, 7, 72), id="chunks of 72 dims"),
    ],
)
def test_layouts_that_they_have_not(x: torch.Tensor) -> None:
    assert describe(x, 64, True) is None


def test_who_has_them_and_who_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hopper and Blackwell, unless a user wants none, and the interpreter where a user wants them."""
    assert describe(torch.empty(2, 3, 7, 64), 64, False) is None
    monkeypatch.delenv("MASKDSL_DESCRIPTORS", raising=False)
    have_them = [Architecture.SM90, Architecture.SM100]
    assert list(filter(uses_descriptors, Architecture)) == have_them
    for asked, expected in (("0", []), (" 0 ", []), ("", have_them), ("1", [*have_them, Architecture.INTERPRETER])):
        monkeypatch.setenv("MASKDSL_DESCRIPTORS", asked)
        assert list(filter(uses_descriptors, Architecture)) == expected


# Chosen by instructions

BETTER = [
    ("causal", "sm90", 128, FORWARD, WIDE),
    ("causal", "sm90", 128, QUERY, WIDE),
    ("causal", "sm100", 128, FORWARD, TALL),
    ("causal", "sm90", 128, FORWARD, TileChoice(128, 128, 8, 2)),
    ("longformer", "sm90", 128, FORWARD, WIDE),
    ("longformer", "sm90", 128, QUERY, WIDE),
    ("causal", "sm100", 64, QUERY, TileChoice(64, 64, 4, 2)),
    ("causal", "sm90", 256, FORWARD, TALL),
    ("causal", "sm90", 256, QUERY, TileChoice(64, 64, 8, 2)),
    ("causal", "sm100", 256, FORWARD, TileChoice(64, 64, 8, 2)),
    ("causal", "sm100", 256, QUERY, TileChoice(64, 64, 8, 2)),
    ("longformer", "sm100", 256, FORWARD, TileChoice(64, 64, 8, 2)),
    ("longformer", "sm90", 256, FORWARD, TALL),
    ("causal", "sm100", 128, FORWARD, TileChoice(128, 32, 4, 3)),
    ("causal", "sm100", 128, QUERY, TileChoice(128, 32, 4, 2)),
]
WORSE = [
    ("causal", "sm90", 64, FORWARD, WIDE),
    ("longformer", "sm90", 64, FORWARD, WIDE),
    ("causal", "sm90", 64, FORWARD, TileChoice(128, 128, 8, 2)),
    ("causal", "sm90", 64, QUERY, TALL),
    ("causal", "sm100", 64, FORWARD, WIDE),
    ("causal", "sm100", 128, FORWARD, TileChoice(128, 32, 8, 3)),
    ("causal", "sm100", 128, QUERY, TileChoice(128, 32, 8, 2)),
]
BUDGETS = {BETTER[0]: [358, 446], BETTER[1]: [290, 400], BETTER[2]: [381, 477]}
"""Instructions of a full and of a partial tile; without descriptors 390 and 480, 322 and 430, 393 and 499."""


def some(cases: list[tuple[str, str, int, KernelName, TileChoice]], count: int) -> pytest.MarkDecorator:
    """The first ones here, the others in `make test-long`."""
    params = [
        pytest.param(*each, marks=() if number < count else pytest.mark.long) for number, each in enumerate(cases)
    ]
    return pytest.mark.parametrize(("name", "target", "dim", "kernel", "choice"), params)


def chosen(name: str, target: str, dim: int, kernel: KernelName, choice: TileChoice) -> bool:
    has_lists, changes_scores = plan(name).row_limits is None, bool(plan(name).mask.pair_values)
    asked = Architecture(target), kernel, dim, 2
    return with_descriptors([choice], *asked, has_lists=has_lists, changes_scores=changes_scores)[0].descriptors


@some(BETTER, 3)
def test_chosen_where_loops_are_shorter(
    name: str, target: str, dim: int, kernel: KernelName, choice: TileChoice
) -> None:
    """The copies of tiles in loops are those of the descriptor alone, and nothing spills."""
    assert chosen(name, target, dim, kernel, choice)
    plain, described = (
        compiled(name, target, dim, kernel, each) for each in (choice, choice._replace(descriptors=True))
    )
    assert described.loads_by_descriptors
    assert not plain.loads_by_descriptors
    full, partial = instructions(described)
    assert (full, partial) < tuple(instructions(plain))
    assert partial < instructions(plain)[1]
    assert [full, partial] <= BUDGETS.get((name, target, dim, kernel, choice), [full, partial])
    assert described.usage.spills <= plain.usage.spills
    for loop in loop_texts(machine_code(described)):
        assert len(COPIES.findall(loop)) >= 2
        assert not ASYNCHRONOUS.search(loop)


@some(WORSE, 1)
def test_not_chosen_where_they_are_longer(
    name: str, target: str, dim: int, kernel: KernelName, choice: TileChoice
) -> None:
    assert not chosen(name, target, dim, kernel, choice)
    plain, described = (
        compiled(name, target, dim, kernel, each) for each in (choice, choice._replace(descriptors=True))
    )
    assert instructions(plain)[0] < instructions(described)[0] + 2


def test_ladders() -> None:
    """Each choice that takes them stands before itself without them; the last ones, and other kernels, do not."""
    causal, usual = plan("causal"), (Architecture.SM90, FORWARD, 128, 2)
    choices = ladder(*usual, causal.work)
    found = choices_of(causal, *usual, descriptors=True)
    assert choices_of(causal, *usual, descriptors=False) == choices
    assert [each for each in found if not each.descriptors] == [*choices]
    described = [number for number, each in enumerate(found) if each.descriptors]
    assert described
    assert all(found[number]._replace(descriptors=False) == found[number + 1] for number in described)
    assert found[-2:] == LAST


@pytest.mark.parametrize(
    ("name", "architecture", "kernel", "dim", "element_size"),
    [
        pytest.param("causal", Architecture.SM90, KEY, 128, 2, id="dK and dV"),
        pytest.param("causal", Architecture.SM90, FORWARD, 128, 4, id="float32"),
        pytest.param("causal", Architecture.SM80, FORWARD, 128, 2, id="Ampere"),
        pytest.param("causal", Architecture.GFX942, QUERY, 128, 2, id="AMD"),
        pytest.param("alibi", Architecture.SM90, FORWARD, 128, 2, id="biases: products would wait"),
        pytest.param("alibi", Architecture.SM90, QUERY, 128, 2, id="biases: products would wait, dQ"),
        pytest.param("conformer", Architecture.SM90, QUERY, 128, 2, id="tables of pairs: longer"),
        pytest.param("deberta", Architecture.SM90, QUERY, 64, 2, id="several tables: longer"),
        pytest.param("longformer", Architecture.SM100, FORWARD, 64, 2, id="lists on Blackwell"),
        pytest.param("streaming", Architecture.SM100, FORWARD, 64, 2, id="lists on Blackwell: longer"),
    ],
)
def test_ladders_without(
    name: str, architecture: Architecture, kernel: KernelName, dim: int, element_size: int
) -> None:
    asked = architecture, kernel, dim, element_size
    assert choices_of(plan(name), *asked, descriptors=True) == ladder(*asked, plan(name).work)


@pytest.mark.parametrize("kernel", [FORWARD, QUERY])
def test_kernels_of_chunks_have_none(kernel: KernelName) -> None:
    """192 dims are two chunks, whatever a launch asks for."""
    choice = TALL._replace(descriptors=True)
    assert not compiled("causal", "sm90", 192, kernel, choice).loads_by_descriptors
