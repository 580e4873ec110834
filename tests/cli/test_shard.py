"""`maskdsl shard`: plans as tables and JSON, and what is wrong with a call."""

import json

import pytest

DOCUMENTS = """
pattern documents(n = 2048) {
    space tokens[n]
    input document: int[tokens]
    attend same(document) and causal
}
pattern globals_of(n = 32768) {
    space tokens[n]
    attend window(256)
    attend globals_first(2)
}
stack both(n = 2048) = 2 * documents(n) + globals_of(n)
"""


@pytest.fixture
def file(pattern_file):
    return pattern_file(DOCUMENTS, "several.attn")


def test_tables(maskdsl, file):
    ended = maskdsl("shard", file, "globals_of", "--ranks", "8,64", "--heads", 8)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("globals_of(n=32768)  32,768 tokens, 8 heads")
    assert "8 ranks" in lines[2]
    assert "64 ranks, 8 nodes" in ended.out
    assert lines[4].split()[:4] == ["contiguous", "+", "travelling", "rows"]


def test_json(maskdsl, file):
    ended = maskdsl("shard", file, "documents", "--ranks", "2, 4", "--heads", 4, "--key-heads", 2, "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert [each["ranks"] for each in found["plans"]] == [2, 4]
    for plan in found["plans"]:
        assert len(plan["work"]) == len(plan["received"]) == plan["ranks"]
        assert sum(plan["received"]) == sum(plan["sent"])
        assert plan["score"] == min(each["score"] for each in plan["table"])


def test_stacks(maskdsl, file):
    ended = maskdsl("shard", file, "both", "--ranks", "4", "--per-node", 2, "--link", 25, 450, "--dtype", "float32")
    assert ended.code == 0
    assert "4 ranks, 2 nodes" in ended.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ranks", "0"], "0 is not in the range"),
        (["--ranks", "8,x"], "'x' is not a valid integer"),
        (["--per-node", "0"], "0 is not in the range"),
        (["--link", "50"], "requires 2 arguments"),
        (["--dtype", "int8"], "'int8' is not one of"),
    ],
)
def test_wrong_words(maskdsl, file, words, said):
    ended = maskdsl("shard", file, "documents", *words)
    assert ended.code == 2
    assert said in ended.err
