"""`show --ranks` and `view --ranks`: maps by the ranks of a plan."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

GOLDENS = Path(__file__).parent / "goldens"
TEXT = """
## A window, and a token that sees all.
pattern line(n = 2048) {
    space tokens[n]
    attend window(300) or q < 1
}
pattern causal_all(n = 2048) {
    space tokens[n]
    attend causal
}
pattern near_and_far(n = 1024) {
    space tokens[n]
    branch near {
        attend window(100)
        weight 0.5
    }
    branch far {
        attend causal and (q - k) % 7 == 0
        weight 0.5
    }
}
stack both(n = 2048) = 2 * line(n) + causal_all(n)
"""


@pytest.fixture
def file(pattern_file):
    return pattern_file(TEXT, "several.attn")


def map_lines(text):
    """The lines of cells, without labels and frames."""
    return [line[7:-2] for line in text.splitlines() if line.startswith("│")][1:]


def test_letters_of_ranks(maskdsl, file):
    ended = maskdsl("show", file, "line", "n=8192", "--ranks", 4, "--per-node", 4, "--heads", 8)
    assert (ended.code, ended.err) == (0, "")
    *cells, below = map_lines(ended.out)
    top = cells[0]
    assert re.fullmatch("A+B+C+D+ A", top)  # the first row goes to the keys, and each rank computes them for it
    assert re.fullmatch("A+B+C+D+  ", below)
    assert [line[-1] for line in cells] == sorted(line[-1] for line in cells)
    for line, following in pairwise(cells[1:]):
        if line[-1] == following[-1]:  # otherwise the second row of cells may be of the next rank
            assert set(line[:-2]) <= {"\N{MIDDLE DOT}", line[-1], line[-1].lower()}
    assert any(line[-1].lower() in line[:-1] for line in cells)  # a window reaches over the border of two ranks
    assert "4 ranks: contiguous + travelling rows, score" in ended.out
    assert all(f"{name} rank {number}" in ended.out for number, name in enumerate(("Aa", "Bb", "Cc", "Dd")))
    assert "small letters: keys are received" in ended.out


def test_a_picture(maskdsl, file, tmp_path, request):
    out = tmp_path / "picture.svg"
    words = "causal_all", "n=2048", "--heads", 8, "--ranks", 4, "--per-node", 2, "--block", "128"
    ended = maskdsl("show", file, *words, "--out", out)
    assert (ended.code, ended.out) == (0, ""), ended.err
    golden = GOLDENS / "ranks.svg"
    if request.config.getoption("--update-golden"):
        golden.write_bytes(out.read_bytes())
    assert out.read_bytes() == golden.read_bytes()


def test_more_ranks_than_colours(maskdsl, file):
    out = maskdsl("show", file, "causal_all", "n=65536", "--ranks", 32).out
    assert "ranks 0, 8, ..." in out and "ranks 7, 15, ..." in out
    teams = maskdsl("show", file, "causal_all", "n=65536", "--ranks", 64, "--heads", 64, "--key-heads", 8).out
    assert "ranks 0-7" in teams and "8 ranks hold tokens together, and each computes 8 heads of them" in " ".join(
        teams.split()
    )


def test_ranks_of_a_region(maskdsl, file):
    """As in the whole map, where its first queries are no longer those of rank 0."""
    words = "causal_all", "n=8192", "--ranks", 2, "--rows", "3000:3004", "--columns", "100:104"
    *cells, below = map_lines(maskdsl("show", file, *words).out)
    assert set("".join(cells)) == {"b", "B", " "} and set(below) == {"A", " "}


def test_layers_share_one_plan(maskdsl, file, tmp_path):
    ended = maskdsl("show", file, "both", "--ranks", 4, "--heads", 4)
    assert ended.code == 0 and len(set(re.findall(r"4 ranks: .*?score [\d.]+", ended.out))) == 1
    assert maskdsl("show", file, "both", "--ranks", 4, "--out", tmp_path / "map.png").code == 0


def test_branches_and_orders(maskdsl, file):
    out = maskdsl("show", file, "near_and_far", "--ranks", 2).out
    assert "branch near" in out and out.count("2 ranks: ") == 2
    words = "examples/vision/neighborhood.attn", "na2", "h=32", "w=32", "--ranks", 4
    ended = maskdsl("show", *words, "--order", "hilbert(y, x)", "--order", "declared")
    assert ended.out.count("4 ranks: ") == 2, ended.err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--json"], "--json"),
        (["--around", "3", "--out", "map.svg"], "--around"),
        (["--diff", "causal"], "--diff"),
    ],
)
def test_mistakes(maskdsl, file, words, option):
    ended = maskdsl("show", file, "line", "--ranks", 4, *words)
    assert ended.code == 2 and f"error[E565]: `--ranks` colours the tiles of maps, and does not go with `{option}`" in (
        " ".join(ended.err.split())
    )


def test_pages(maskdsl, file, tmp_path):
    for name in ("line", "both"):
        out = tmp_path / f"{name}.html"
        ended = maskdsl("view", file, name, "--ranks", "2,4", "--per-node", 2, "--out", out)
        assert ended.code == 0, ended.err
        assert out.read_text().count('"travels":') == 2 * (1 + (name == "both"))
    ended = maskdsl("view", file, "line", "--ranks", "2,x", "--out", tmp_path / "page.html")
    assert ended.code == 2 and "'x' is not a valid integer" in ended.err
