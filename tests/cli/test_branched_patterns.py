"""Commands on a pattern with branches: pictures and figures of each, and reasons by branch."""

import json

import pytest

TEXT = """
pattern two(n = 256, gates = 3) {
    space tokens[n]
    input gate: float[3, heads]
    require k <= q + 8

    branch part for o in 0 .. gates {
        attend causal
        weight gate[o, head]
    }

    branch near {
        attend window(5)
        require k != 3
    }
}

pattern routed(n = 64, top = 3) {
    space tokens[n]
    coord chunk = i // 8

    branch near {
        attend causal and same(chunk)
    }

    branch far for o in 1 .. top {
        route picked = topk(o, dot(q, mean(k by chunk))) where k.chunk < q.chunk
        attend picked
    }
}

stack both(n = 256) = 2 * two(n) + causal_dense(n)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "branches.attn"
    path.write_text(TEXT)
    return str(path)


def test_maps_are_of_each_branch_or_of_all_together(maskdsl, file):
    shown = maskdsl("show", file, "two").out
    assert all(f"branch {name}" in shown for name in ("part[0]", "part[1]", "part[2]", "near"))
    assert "8 branches together, declared order" in maskdsl("show", file, "routed", "top=8", "--random", "1").out
    assert "branch far[1]" in maskdsl("show", file, "routed", "--random", "1").out
    assert "branch far[2]" in maskdsl("show", file, "routed").out


def test_figures_add_up(maskdsl, file):
    total = json.loads(maskdsl("stats", file, "two", "--json").out)["orders"][0]["total"]
    causal, near = 256 * 257 // 2, 256 * 5 - 6 - 5
    assert total["attended"] == 3 * causal + near and total["seen"] == causal + 2 * 256 - 3 - 2
    assert total["dense"] == 4 * total["pairs"] == 4 * 256**2
    assert "attended by branches" in maskdsl("stats", file, "two").out
    assert "attended by branches" not in maskdsl("stats", "examples/language/longformer.attn").out
    stack = json.loads(maskdsl("stats", file, "both", "--json").out)["total"]
    assert stack["attended"] == 2 * total["attended"] + causal and stack["dense"] == 9 * 256**2
    gpu = json.loads(maskdsl("stats", file, "two", "--gpu", "H100", "--json").out)["orders"][0]["gpus"][0]
    assert gpu["forward_seconds"] > 3 * gpu["kernels"][0]["seconds"]


def test_explanations_name_branches(maskdsl, file):
    lines = maskdsl("explain", file, "two", "--pair", "5", "3").out.splitlines()
    assert lines[-1] == "query 5 attends key 3 in `part[0]`, `part[1]`, `part[2]`"
    near = lines.index("branch near  no")
    assert lines[near + 3].strip() == "branches.attn:14  require k != 3: 3 != 3  no"
    assert maskdsl("explain", file, "two", "--pair", "3", "90").out.endswith("does not attend key 90 in any branch\n")
    data = json.loads(maskdsl("explain", file, "two", "--pair", "5", "3", "--json").out)
    assert {name: each["attends"] for name, each in data["branches"].items()} == {
        **{f"part[{number}]": True for number in range(3)},
        "near": False,
    }
    assert "branch part[2]" in maskdsl("explain", file, "two").out
    assert "branch far[1]" in maskdsl("explain", file, "routed").out


def test_stages_are_of_each_branch(maskdsl, file):
    for stage in ("tiles", "plan", "reference", "tiled", "triton", "decode"):
        assert maskdsl("emit", file, "two", "--stage", stage).out.count("# branch ") == 4
    written = maskdsl("emit", file, "two", "--stage", "ir").out
    assert written.count("\nbranch ") == 4 and "gate[2, head]" in written


def test_what_computes_serves_them(maskdsl, file):
    assert "passed two: 3 cases" in maskdsl("verify", file, "two", "--cases", "3", "--backend", "tiled").out
    assert "passed routed: 2 cases" in maskdsl("verify", file, "routed", "--cases", "2").out
    assert maskdsl("check", file).code == 0


def test_the_page_and_files(maskdsl, file, tmp_path):
    assert maskdsl("view", file, "two", "--out", str(tmp_path / "page.html")).code == 0
    page = (tmp_path / "page.html").read_text()
    assert "The map has the pairs that some branch attends: part[0], part[1], part[2], near." in page
    assert maskdsl("show", file, "routed", "--random", "1", "--out", str(tmp_path / "map.svg")).code == 0
    assert "branch far[2]" in (tmp_path / "map.svg").read_text()
