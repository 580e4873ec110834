"""Files that are made to take long: each ends soon, with a declared error or a result."""

import difflib
from time import process_time

import pytest

import maskdsl
from maskdsl import AttnError
from maskdsl.base import diagnostics
from maskdsl.base.diagnostics import LONGEST_VALUE, MOST_COMPARED
from maskdsl.bind.context import report
from maskdsl.bind.context.report import MOST_ERRORS, MOST_SUGGESTIONS
from maskdsl.bind.statement.parameters import MOST_NAMES
from maskdsl.cli.commands.check_and_fmt import checked
from maskdsl.ir.heads import Heads
from maskdsl.syntax.program import load_program

HEAD = "pattern p(n = 64) { space tokens[n]"


def errors_of(text):
    with pytest.raises(AttnError) as raised:
        maskdsl.parse(text)["p"].bind()
    assert len(str(raised.value)) < 200_000
    return raised.value.diagnostics


@pytest.mark.parametrize("where", ["attend q == {}(k)", "let {0} = {0}(2)"])
def test_few_of_many_unknown_names_are_compared_with_those_known(monkeypatch, where):
    compared = []

    def counted(name, known, **options):
        compared.append(len(known))
        return difflib.get_close_matches(name, known, **options)

    monkeypatch.setattr(diagnostics, "get_close_matches", counted)
    macros = "\n".join(f"def macro_number_{n}(a) = a + {n}" for n in range(400))
    lines = "\n".join(where.format(f"makro_number_{n}") for n in range(300))
    found = errors_of(f"{macros}\n{HEAD} {lines} }}")
    assert len(found) <= MOST_ERRORS + 1
    assert 0 < len(compared) <= MOST_SUGGESTIONS and max(compared) <= MOST_COMPARED


def test_errors_beyond_the_most_are_not_looked_for():
    found = errors_of(f"{HEAD} {' '.join(f'attend unknown_{n}' for n in range(3 * MOST_ERRORS))} }}")
    assert len(found) == MOST_ERRORS + 1
    assert diagnostics.render(found[-1]) == (
        "error[E299]: there are more than 100 errors, and the text after them was not checked"
    )


def test_the_likeliest_names_are_compared():
    known = [f"macro_number_{n}" for n in range(5000)]
    assert diagnostics.nearest_name("makro_number_4321", known) == "macro_number_4321"
    assert diagnostics.nearest_name("a" * 100_000, known) is None


def test_a_name_of_a_megabyte_is_not_printed_whole():
    (found,) = errors_of(f"{HEAD} attend {'a' * 900_000} }}")
    assert len(str(AttnError(found))) < 2 * LONGEST_VALUE


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD} {' '.join(f'let a{n} = {n}' for n in range(MOST_NAMES + 1))} attend causal }}",
        f"pattern p({', '.join(f'a{n} = {n}' for n in range(MOST_NAMES + 1))}) {{ space t[4] attend causal }}",
        f"def f(a) = {{ {' '.join(f'let a{n} = {n}' for n in range(MOST_NAMES + 1))} a }} {HEAD} attend causal }}",
    ],
    ids=["lets", "parameters", "lets of a macro"],
)
def test_a_declaration_has_no_more_than_so_many_names(text):
    assert [each.code for each in errors_of(text)] == ["E307"]


def test_files_that_are_not_there_are_not_all_looked_for(tmp_path):
    (tmp_path / "a.attn").write_text("".join(f'use "b{n}.attn"\n' for n in range(500)))
    with pytest.raises(AttnError) as raised:
        load_program(tmp_path / "a.attn")
    assert len(raised.value.diagnostics) == 10


EXPENSIVE = "pattern p(n = 8, seed = 0) { space t[n] attend any(q + seed == j * k for j in 0 .. 20) }\n"


@pytest.mark.parametrize(
    "layers", ["sum(p(n, seed = j) for j in 0 .. 900)", "p + sum(0 * p(n, seed = j) for j in 0 .. 4000)"]
)
def test_layers_are_not_many_times_as_large_as_a_pattern(monkeypatch, layers):
    """Also those of which a stack takes none."""
    monkeypatch.setattr(report, "MOST_STEPS_TOGETHER", 3000)
    module = maskdsl.parse(f"{EXPENSIVE}stack s(n = 8) = {layers}")
    began = process_time()
    with pytest.raises(AttnError, match="the patterns together are too large") as raised:
        module.stack("s").bind()
    assert {each.code for each in raised.value.diagnostics} == {"E304"} and process_time() - began < 2
    assert len(maskdsl.parse(f"{EXPENSIVE}stack s(n = 8) = p + p(seed = 2)").stack("s").bind()) == 2


def test_what_is_checked_together_is_not_many_times_as_large(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "MOST_STEPS_TOGETHER", 3000)
    path = tmp_path / "many.attn"
    path.write_text("".join(EXPENSIVE.replace("p(", f"p{n}(") for n in range(300)))
    began = process_time()
    found = checked(str(path), Heads())
    assert found.error is not None and [each.code for each in found.error.diagnostics] == ["E304"]
    assert 5 < len(found.patterns) < 100 and process_time() - began < 2
