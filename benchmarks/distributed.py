"""Plans of a million tokens for 8 to 4,096 ranks beside others' schemes: `python benchmarks/distributed.py`.

Prints the score of the plan and of the best other scheme, by the price of `maskdsl/distributed/pricing.py`, and the
processor time of planning: with the search, and anew for documents of a next step. Writes the record,
`benchmarks/results/distributed.json`, and the table of docs/distributed.md. Names of cases leave the others out.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import maskdsl
from maskdsl.distributed.homes import ShardScheme
from maskdsl.distributed.shard_plan import RankPlan

TOKENS = 1 << 20
HEADS, KEY_HEADS, DIM = 64, 8, 128
RANKS = (8, 64, 512, 4096)
RESULTS = Path(__file__).parent / "results" / "distributed.json"
PAGE = Path(__file__).parents[1] / "docs" / "distributed.md"
BEGIN, END = "<!-- scores -->\n", "<!-- /scores -->"
PATTERNS = """
pattern causal_all(n) {
    space tokens[n]
    attend causal
}
pattern window_of(n, size = 4096) {
    space tokens[n]
    attend causal and backward(size)
}
pattern documents(n) {
    space tokens[n]
    input document: int[tokens]
    attend same(document) and causal
}
pattern prefix(n) {
    space tokens[n]
    attend causal or k < n // 8
}
pattern sinks(n, size = 8192, kept = 64) {
    space tokens[n]
    attend causal and (backward(size) or k < kept)
}
pattern plane(n, side = 1024) {
    space image[y = side, x = side]
    coord curve = hilbert(y, x)
    order by curve
    attend neighborhood((33, 33))
}
pattern video(n) {
    space frames[t = 64, y = 128, x = 128]
    order by t // 4, y // 16, x // 16
    attend neighborhood((9, 17, 17))
}
pattern dilated_of(n, size = 1024, step = 8) {
    space tokens[n]
    attend window(size * step) and dilated(step)
}
pattern longformer_of(n, size = 4096, globals = 16) {
    space tokens[n]
    attend window(size)
    attend globals_first(globals)
}
pattern bigbird_of(n, block = 128) {
    space tokens[n]
    coord b = tokens // block
    let last = len(b) - 1
    route drawn = draw(3, 7, 0) where abs(q.b - k.b) > 1 and 0 < q.b < last and 0 < k.b < last
    attend abs(q.b - k.b) <= 1
    attend q.b == 0 or q.b == last or k.b == 0 or k.b == last
    attend drawn
}
"""
CASES = {
    "causal": ("causal_all", None),
    "causal window 4,096": ("window_of", None),
    "packed documents, up to a quarter": ("documents", 60_000),
    "packed documents, short": ("documents", 4_000),
    "prefix LM, an eighth": ("prefix", None),
    "window 8,192 and 64 sinks": ("sinks", None),
    "33 x 33 of 1,024 x 1,024, Hilbert": ("plane", None),
    "9 x 17 x 17 of 64 x 128 x 128": ("video", None),
    "dilated window": ("dilated_of", None),
    "Longformer 4,096 and 16 globals": ("longformer_of", None),
    "BigBird, blocks of 128": ("bigbird_of", None),
}
"""Names of cases, each with its pattern and the median length of its documents."""


def documents(median: int, seed: int = 0) -> NDArray[np.int64]:
    """int64 [tokens]: numbers of documents of log-normal lengths."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(np.log(median), 1.5, TOKENS // 64), 64, TOKENS // 4).astype(np.int64)
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), TOKENS) + 1]
    return np.repeat(np.arange(len(lengths)), lengths)[:TOKENS]


def best_of_others(plan: RankPlan) -> tuple[ShardScheme, float]:
    """The cheapest scheme that others use: no search of homes, and no rows that travel."""
    used = [each for each in plan.table if not each.scheme.travelling and each.scheme.rule != "searched"]
    best = min(used, key=lambda each: each.seconds)
    return best.scheme, best.score


def measured(pattern: str, median: int | None) -> dict[str, Any]:
    """Scores and times of planning for each number of ranks."""
    mask = maskdsl.parse(PATTERNS)[pattern].bind(n=TOKENS, heads=HEADS, key_heads=KEY_HEADS)
    inputs = {} if median is None else {"document": documents(median)}
    results = {}
    for ranks in RANKS:
        start = time.process_time()
        plan = mask.shard(ranks, head_dim=DIM, **inputs)
        seconds = time.process_time() - start
        scheme, score = best_of_others(plan)
        results[str(ranks)] = {
            "scheme": str(plan.scheme),
            "score": round(plan.score, 3),
            "milliseconds": round(plan.time, 4),
            "most received": int(plan.received.max()),
            "other": str(scheme),
            "other score": round(score, 3),
            "planning": round(seconds, 2),
        }
        if inputs:
            results[str(ranks)]["planning anew"] = round(_anew(mask, ranks, plan.scheme, median), 4)
    return results


def _anew(mask: maskdsl.Mask, ranks: int, scheme: ShardScheme, median: int | None) -> float:
    """Processor seconds of a plan for other documents by the same scheme, on blocks of 1,024: the least of three."""
    seconds = []
    for seed in (1, 2, 3):
        given = documents(median or 0, seed)
        start = time.process_time()
        mask.shard(ranks, head_dim=DIM, block=1024, scheme=scheme, document=given)
        seconds.append(time.process_time() - start)
    return min(seconds)


def page(text: str, record: dict[str, Any]) -> str:
    """The page with the scores of plans for each number of ranks, and of the best other scheme for 512."""
    head = ["pattern", *(f"{ranks:,} ranks" for ranks in RANKS), "512, others"]
    rows = [head, ["---"] * len(head)]
    for name, by_ranks in record.items():
        scores = [each["score"] for each in by_ranks.values()]
        rows.append([name, *(f"{score:.2f}" for score in (*scores, by_ranks["512"]["other score"]))])
    before, behind = text.split(BEGIN)[0], text.split(END)[1]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{before}{BEGIN}{table}{END}{behind}"


def main() -> None:
    only = sys.argv[1:]
    whole = json.loads(RESULTS.read_text()) if only and RESULTS.exists() else {}
    for name, (pattern, median) in CASES.items():
        if only and name not in only:
            continue
        whole[name] = measured(pattern, median)
        for ranks, each in whole[name].items():
            anew = f", anew {each['planning anew'] * 1e3:.0f} ms" if "planning anew" in each else ""
            print(
                f"{name:36} {ranks:>5} ranks: {each['score']:7.2f}, {each['scheme']}"
                f" (others {each['other score']:.2f}, {each['other']}; planned in {each['planning']} s{anew})",
                flush=True,
            )
    RESULTS.write_text(json.dumps(whole, indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text(), whole))


if __name__ == "__main__":
    main()
