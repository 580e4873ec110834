"""`show` and `stats` where queries and keys decide: all candidates, or what is selected in given or random ones."""

import json

import numpy as np

MOBA = "examples/routing/moba.attn"
SIZES = ("n=256", "block=32", "top=2", "--heads", 2)
CANDIDATES = "note: routes select in the queries and keys of a call: these are all candidates"


def stats(maskdsl, *words):
    ended = maskdsl("stats", MOBA, *SIZES, "--block", 32, "--json", *words)
    assert ended.code == 0, ended.err
    return ended.err, {each["order"]: each for each in json.loads(ended.out)["orders"]}


def test_candidates_bound_what_is_selected(maskdsl):
    err, orders = stats(maskdsl)
    assert err.startswith(CANDIDATES) and "--random SEED" in err
    most, least = orders["at most, declared order"], orders["at least, declared order"]
    assert most["heads"][0]["attended"] == 256 * 257 // 2
    assert least["heads"][0]["attended"] == 8 * 32 * 33 // 2
    err, orders = stats(maskdsl, "--random", 3)
    assert err == "note: selected by random queries and keys (seed 3, head dimension 64)\n"
    # Every query but those of the first block has one past block more.
    assert orders["declared order"]["heads"][1]["attended"] == 8 * 32 * 33 // 2 + 7 * 32 * 32


def test_given_queries_and_keys_decide(maskdsl, tmp_path):
    k = np.zeros((1, 1, 256, 8))
    k[:, :, 64:96] = 1  # the third block answers best
    q = np.ones((1, 2, 256, 8))
    for name, array in (("q", q), ("k", k)):
        np.save(tmp_path / f"{name}.npy", array)
    given = [word for name in "qk" for word in ("--input", f"{name}={tmp_path / name}.npy")]
    ended = maskdsl("show", MOBA, *SIZES, "--block", 32, *given)
    assert (ended.code, ended.err) == (0, "")
    lines = [line.replace(" ", "").strip("│") for line in ended.out.splitlines() if line.startswith("│")]
    assert lines[-3].split("││") == ["····██········▓▓"] * 2
    assert "7 full, 8 partial" in ended.out


def test_a_route_can_be_given_itself(maskdsl, tmp_path):
    np.save(tmp_path / "past.npy", np.zeros((1, 2, 256, 8), dtype=bool))
    _, orders = stats(maskdsl, "--input", f"past={tmp_path / 'past.npy'}")
    assert orders["declared order"]["heads"][0]["attended"] == 8 * 32 * 33 // 2


def test_the_stages_of_a_routed_pattern(maskdsl):
    ir = maskdsl("emit", MOBA, "--stage", "ir").out
    assert "route past = topk(2, product 0[q, k.chunk]) where k.chunk < q.chunk" in ir
    assert "product 0 = dot(q, mean(k by chunk))" in ir
    routing = maskdsl("emit", MOBA, "--stage", "routing").out
    assert "def find_past(queries, keys, inputs):" in routing
    compile(routing, "routing", "exec")


def test_layers_of_a_stack(maskdsl, tmp_path):
    (tmp_path / "stack.attn").write_text(
        """
        pattern near(n) { space tokens[n] attend backward(8) }
        pattern far(n) {
            space tokens[n]
            coord chunk = i // 8
            route past = topk(1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
            attend causal and (past or same(chunk))
        }
        stack both(n = 64) = near(n) + 2 * far(n)
        """
    )
    words = str(tmp_path / "stack.attn"), "both", "--heads", 2

    def attended(*options):
        ended = maskdsl("stats", *words, "--json", *options)
        assert ended.code == 0, ended.err
        return ended.err, [each["total"]["attended"] for each in json.loads(ended.out)["different"]]

    near = 2 * (8 * 64 - 28)
    err, found = attended()
    assert err.startswith(CANDIDATES) and found == [near, 2 * 64 * 65 // 2]
    err, found = attended("--random", 3)
    assert "seed 3" in err and found == [near, 2 * (8 * 36 + 7 * 64)]
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(1, 2, 64, 4)))
    given = [word for name in "qk" for word in ("--input", f"{name}={tmp_path / 'x.npy'}")]
    assert attended(*given) == ("", found)
    shown = maskdsl("show", *words, "--block", 8, "--random", 3)
    assert shown.code == 0 and "layers 2-3:" in shown.out
    assert maskdsl("show", *words).err.startswith(CANDIDATES)
    wide, narrow = (maskdsl("field", *words, "--layers", 2, "--json", *seed) for seed in ([], ["--random", 3]))
    assert wide.err.startswith(CANDIDATES) and "seed 3" in narrow.err
    assert json.loads(wide.out)["layers"] == json.loads(narrow.out)["layers"] == ["near", "far", "far"]


def test_what_is_too_large_is_said(maskdsl):
    ended = maskdsl("show", "examples/routing/sparsifiner.attn", "n=65536", "--random", 1)
    assert ended.code == 2 and "error[E519]: the input `connect` would have 1 x 1 x 65536 x 65536 values" in ended.err
    ended = maskdsl("show", "examples/routing/knn.attn", "n=8192", "--random", 1, "--heads", 1)
    assert ended.code == 2 and "error[E555]: `best` scores 8192 query groups for 8192 key groups" in ended.err
    ended = maskdsl("show", "examples/routing/knn.attn", "n=8192")
    assert ended.code == 0 and "32 keys a query, density 0.391 %" in ended.out


def test_candidates_need_no_scores(maskdsl):
    ended = maskdsl("show", "examples/routing/sparsifiner.attn", "n=65536")
    assert ended.code == 0 and "32 to 65,536 keys a query" in ended.out and "made-up" not in ended.err
    ended = maskdsl("show", "examples/routing/proxy.attn", "proxy_budget", "n=512")
    assert ended.code == 0 and "made-up values for `budget`" in ended.err


def test_queries_and_keys_of_one_sequence_are_its_tokens(maskdsl):
    out = maskdsl("show", "examples/routing/clusters.attn", "n=64", "--heads", 1).out
    assert out.startswith("clusters(n=64)  64 tokens, 1 head")


def test_routes_that_nothing_reads(maskdsl, tmp_path):
    """What nothing reads is not found; of `nearest`, one side may be read alone."""
    routes = {
        "topk(2, dot(q, k))": "causal",
        "nearest(centroids)": "causal",
        "nearest(centroids) ": "causal and q.chosen == 1",
    }
    for route, relation in routes.items():
        path = tmp_path / "unread.attn"
        centroids = "input centroids: float[heads, 3, dim]" if "centroids" in route else ""
        path.write_text(f"pattern unread() {{ space t[8] {centroids} route chosen = {route} attend {relation} }}\n")
        for words in ((), ("--random", 0)):
            ended = maskdsl("stats", path, *words)
            assert ended.code == 0, ended.err
