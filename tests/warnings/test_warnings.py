"""Programs with something odd in them and what `check` says about it: `name.attn` and its rendering, `name.warn`."""

import pickle
import warnings
from pathlib import Path

import pytest

import maskdsl
from maskdsl.analysis.orders.binding import check_defaults
from maskdsl.base.diagnostics import Caution, render
from maskdsl.base.errors.language.warnings import CODES
from maskdsl.syntax.format import format_file
from maskdsl.syntax.program import program_from_text

HERE = Path(__file__).parent
PROGRAMS = sorted(HERE.glob("*.attn"))
EXAMPLES = sorted(HERE.parents[1].glob("examples/*/*.attn"))
ODD = """pattern crossed(n = 64, m = 32) {
    space text[n]
    space image[m]
    queries text
    keys image
    attend causal
}
"""


def said(text: str, name: str = "some.attn") -> list[str]:
    """The codes and renderings of all warnings, as Python gives them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = maskdsl.parse(text, name=name)
        for each in module.everything.values():
            each.bind()
    assert all(each.category is maskdsl.AttnWarning and each.filename == __file__ for each in caught)
    return [str(each.message) for each in caught]


def checked(text: str, name: str = "some.attn") -> list[Caution]:
    """All warnings of a text, as `check` finds them."""
    module = maskdsl.parse(text, name=name)
    return [*module.program.cautions, *(w for each in module.everything for w in check_defaults(module.program, each))]


@pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")
@pytest.mark.parametrize("path", PROGRAMS, ids=[path.stem for path in PROGRAMS])
def test_warning(path, request):
    golden = path.with_suffix(".warn")
    text = "\n\n".join(map(render, checked(path.read_text(), path.name))) + "\n"
    if request.config.getoption("--update-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")
def test_binding_warns_of_what_is_no_matter_of_the_text():
    for path in PROGRAMS:
        found = [each for each in checked(path.read_text(), path.name) if not each.is_of_text]
        assert sorted(said(path.read_text(), path.name)) == sorted(map(render, found)), path.stem


@pytest.mark.filterwarnings("ignore::maskdsl.AttnWarning")
def test_every_warning_has_a_golden():
    found = {each.code for path in PROGRAMS for each in checked(path.read_text(), path.name)}
    assert found == {*CODES} - {"W013", "W014"}  # in tests/cli/test_files.py and tests/cli/test_orders.py


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples_have_no_warnings(path):
    assert [render(each) for each in checked(path.read_text(), path.name)] == []


USUAL = """pattern p(n = 64, size = 8, shift = 0, count = 0, past = True) {
    space tokens[n]
    input document: int[tokens]
    input allowed: bool[n, n]
    %s
}
"""


@pytest.mark.filterwarnings("error::maskdsl.AttnWarning")
@pytest.mark.parametrize(
    "lines",
    [
        "attend causal attend sinks(count)",  # off by default
        "attend rolled_blocks(size, shift) require same_side(shift)",
        "attend causal require True if past else k < q",
        "attend backward(size) attend causal and same(document) require allowed[q, k]",
        "attend causal and allowed[q, k] attend allowed[q, k] and backward(3)",  # undecided before there are inputs
        "attend causal and head < 4 attend causal and head >= 4",
        "attend window(size) attend window(7)",
        "attend backward(size) attend same(document)",
        "attend neighborhood(64)",
        "attend window(0)",
        "attend q == k and same(document)",
        "let unread = 3 attend window(size, axis = tokens)",
    ],
)
def test_no_false_alarms(lines):
    text = USUAL % lines
    maskdsl.parse(text)["p"].bind()
    unused = ("W007", "W008")
    assert [render(each) for each in checked(text) if each.code not in unused] == []


@pytest.mark.parametrize("line", ["attend window(8)", "attend causal attend backward(0)", "attend k < q"])
def test_facts_about_the_text_are_allowed_where_they_are(line):
    text = f"pattern p(n = 8) {{\n    space tokens[n]\n    {line}\n}}"
    assert len(checked(text)) == 1
    code = checked(text)[0].code
    silent = text.replace(line, f"{line}  # allow: {code}, it is meant") if code != "W009" else f"# allow: W009\n{text}"
    assert checked(silent) == []


def test_what_is_given_is_warned_of_when_it_is_bound():
    pattern = maskdsl.parse("pattern p(n, size) { space tokens[n] attend backward(size) }")["p"]
    with pytest.warns(maskdsl.AttnWarning, match="W010.*`size` is -3"):
        pattern.bind(n=8, size=-3)
    with pytest.warns(maskdsl.AttnWarning, match="W003.*`p` attends nothing"):
        pattern.bind(n=8, size=0)


def test_there_is_nothing_else():
    assert {path.stem for path in HERE.glob("*.warn")} == {path.stem for path in PROGRAMS}


@pytest.mark.parametrize(
    "silent",
    [
        ODD.replace("attend causal", "attend causal  # allow: W001"),
        ODD.replace("attend causal", "# allow: W001, the two are aligned\n    attend causal"),
        ODD.replace("attend causal", "# allow: W001\n    # for the two are aligned\n\n    attend causal"),
        ODD.replace("attend causal", "attend text -> image\n        # allow: W001\n        where causal"),
        ODD.replace("attend causal", "attend causal\n        and window(8)  # allow: W001"),
        "# allow: W001\n## Documented.\n" + ODD,
        "# allow: W001\n\n" + ODD,
        "def near() = causal  # allow: W001\n" + ODD.replace("causal", "near"),
        "def near() = causal\n" + ODD.replace("causal", "near  # allow: W001"),
        ODD.replace("attend causal", "attend k <= q + 8"),
        ODD.replace("attend causal", "attend (k + 1) * 8 <= q"),
        ODD.replace("attend causal", "let unused = causal\n    attend all -> all"),
        ODD.replace("keys image", "keys text ++ image").replace(
            "attend causal", "attend text -> text where causal\n    attend all -> image"
        ),
        "pattern both(n = 64) { space text[n] space image[8] tokens text ++ image attend causal }",
        "pattern same(n = 64) { space text[n] queries text keys text attend causal }",
    ],
)
def test_silent(silent):
    assert said(silent) == []
    formatted = format_file(program_from_text(silent).root)
    assert said(formatted) == [], formatted


@pytest.mark.parametrize(
    "odd",
    [
        ODD,
        ODD.replace("{", "{  # allow: W001"),
        ODD.replace("space image", "# allow: W001\n    space image"),
        ODD.replace("attend causal", "attend window(8)  # allow: W001\n    attend causal"),
        ODD.replace("attend causal\n", "attend causal\n    # allow: W001\n"),
        ODD + "# allow: W001\n" + ODD.replace("crossed", "other"),
        ODD.replace("attend causal", "# an allow: W001 that is prose\n    attend causal"),
        "def near() = causal\n" + ODD.replace("causal", "near"),
    ],
)
def test_an_allowance_reaches_no_further(odd):
    assert any(each.startswith("warning[W001]") for each in said(odd))


def test_layers_warn_once():
    layers = ODD.replace("keys image", "keys text ++ pools").replace("space image[m]", "space pools = mean(text, 8)")
    with pytest.warns(maskdsl.AttnWarning) as caught:
        maskdsl.parse(layers + "stack deep(n = 64) = crossed(n) + crossed(n, 16)").stack("deep").bind()
    assert len(caught) == 1


def test_a_pattern_whose_lengths_follow_warns_when_it_is_bound():
    torch = pytest.importorskip("torch")
    attention = maskdsl.parse(ODD)["crossed"].compile(follow=("n", "m"))
    with pytest.warns(maskdsl.AttnWarning, match="W001"):
        attention(torch.ones(1, 1, 8, 4), torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4))


def test_a_mask_with_warnings_is_kept_and_compared_as_without():
    with pytest.warns(maskdsl.AttnWarning):
        odd, fine = (maskdsl.parse(text)["crossed"].bind() for text in (ODD, ODD.replace("l\n", "l  # allow: W001\n")))
    (caution,) = pickle.loads(pickle.dumps(odd.ir)).cautions
    assert caution.code == "W001" and render(caution) == render(odd.ir.cautions[0])
    assert fine.ir.cautions == () and odd.ir == fine.ir and hash(odd.ir) == hash(fine.ir)
