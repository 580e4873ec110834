"""`maskdsl explain`: a pattern, a pair of its tokens, and what is wrong with a call."""

import json

import pytest

GRID = """
pattern grid(h = 8, w = 8, size = 3) {
    space image[y = h, x = w]
    attend neighborhood((size, size))
    require q.x <= k.x
}
"""
ROUTED = """
pattern routed(n = 64) {
    space tokens[n]
    coord chunk = i // 8
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend same(chunk)
    attend past
}
"""


@pytest.fixture
def grid(pattern_file):
    return pattern_file(GRID, "grid.attn")


def test_a_pattern(maskdsl, local):
    ended = maskdsl("explain", local, "n=4096", "size=513", columns=100)
    assert ended.code == 0
    lines = [line.strip() for line in ended.out.splitlines()]
    assert lines[0] == "local(n=4096, size=513)  4,096 tokens, 1 head"
    assert any(line.startswith("local.attn:3  attend window(size)") for line in lines)
    assert any(line == "abs(q - k) <= 256" for line in lines)
    assert any(line.startswith("window  The key is at most") for line in lines)
    assert any(line.split() == ["pairs", "n*size", "-", "size^2/4", "+", "1/4"] for line in lines)
    assert any(line.split() == ["grows", "as", "O(n*size)"] for line in lines)
    assert "94 full and 60 partial of 1,024 tiles; 19.3 % of the pairs computed are masked" in lines
    assert any(line.startswith("local.attn:3") and "60 (100 %)" in line for line in lines)


def test_a_pattern_as_json(maskdsl, local):
    found = json.loads(maskdsl("explain", local, "--json", "--block", 16).out)
    assert found["lines"] == [
        {
            "line": "local.attn:3",
            "text": "attend window(size)",
            "meaning": "abs(q - k) <= 4",
            "full": 0,
            "partial": 10,
            "cuts": 10,
        }
    ]
    assert found["growth"]["pairs"] == "n*size - size^2/4 + 1/4"
    assert found["figures"]["attended"] == 64 * 9 - 20
    assert list(found["macros"]) == ["window"]


def test_a_pair(maskdsl, grid):
    ended = maskdsl("explain", grid, "--pair", "3,4", "3,5", columns=120)
    assert ended.code == 0
    assert "query 28   y = 3, x = 4" in ended.out
    assert "key   29   y = 3, x = 5" in ended.out
    assert ended.out.splitlines()[-5:] == [
        "grid.attn:4  attend neighborhood((size, size))  yes",
        "    k.y = 3 is in 2 to 4  yes",
        "    k.x = 5 is in 3 to 5  yes",
        "grid.attn:5  require q.x <= k.x: 4 <= 5  yes",
        "query 28 attends key 29: grid.attn:4 allows it",
    ]


def test_a_pair_that_a_line_forbids(maskdsl, grid):
    found = json.loads(maskdsl("explain", grid, "--pair", 29, 28, "--json").out)
    assert found["attends"] is False
    assert found["verdict"] == "query 29 does not attend key 28: grid.attn:5 forbids it"
    assert found["query"] == {"position": 29, "y": 3, "x": 5}
    assert found["require"] == [
        {
            "line": "grid.attn:5",
            "text": "require q.x <= k.x",
            "holds": False,
            "because": "5 <= 4",
        }
    ]


def test_routes(maskdsl, pattern_file):
    file = pattern_file(ROUTED)
    ended = maskdsl("explain", file)
    assert ended.code == 0 and "these are all candidates" in ended.err
    assert "the values of `past` decide which pairs attend" in " ".join(ended.out.split())
    assert "past[batch, head, q, k.chunk]" in ended.out
    chosen = json.loads(maskdsl("explain", file, "--pair", 63, 0, "--random", 1, "--json").out)
    assert chosen["attend"][1]["because"] == "query 63 selected groups 1, 2 of `chunk`; the key is in group 0"
    assert chosen["attends"] is chosen["attend"][1]["holds"]
    open_pair = json.loads(maskdsl("explain", file, "--pair", 63, 0, "--json").out)
    assert open_pair["attends"] is True and open_pair["attend"][1]["because"] == "0 < 7"


def test_inputs_of_lines_that_decide_nothing_are_made_up(maskdsl, pattern_file):
    file = pattern_file("pattern p(n = 9) { space t[n] input mark: bool[t] attend all -> all attend q.mark }")
    ended = maskdsl("explain", file, "--pair", 3, 4)
    assert ended.code == 0 and "made-up values for `mark`" in ended.err and "attend q.mark" in ended.out
    assert maskdsl("explain", file).code == 0


def test_a_neighbourhood_keeps_its_words(maskdsl, pattern_file):
    text = (
        "pattern p() { space text[4] space image[y = 8, x = 8] tokens text ++ image attend text -> image "
        "attend image -> image where neighborhood((5, 5), (2, 1), 1) }"
    )
    ended = maskdsl("explain", pattern_file(text), columns=120)
    assert "min(" not in ended.out and ended.out.count("text -> image") == 1
    assert "neighborhood  Neighbourhood attention" in ended.out


@pytest.mark.parametrize(
    "words, code",
    [
        (["--pair", "64", "0"], "E514"),
        (["--pair", "0", "-1"], "E514"),
        (["--pair", "x", "0"], "E513"),
        (["--pair", "8,0", "0"], "E514"),
        (["--pair", "1,2,3", "0"], "E513"),
        (["--head", "1"], "E509"),
        (["--block", "0"], "E510"),
    ],
)
def test_what_is_wrong_with_a_call(maskdsl, grid, words, code):
    ended = maskdsl("explain", grid, *words)
    assert ended.code == 2 and code in ended.err
