"""What became of campaigns, as the table of docs/reliability.md: `make golden` writes it there from `results`."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- campaigns -->\n", "<!-- /campaigns -->"
Piece = Mapping[str, Any]


def pieces(name: str) -> list[Piece]:
    """Those of a campaign; none if it has not been recorded."""
    file = RESULTS / f"{name}.json"
    found: list[Piece] = json.loads(file.read_text())["pieces"] if file.exists() else []
    return found


def table() -> str:
    programs = pieces("fuzz")
    by_backends = {
        tuple(each["backends"]): [one for one in programs if one["backends"] == each["backends"]] for each in programs
    }
    rows = [row(f"`make fuzz`, programs ({', '.join(names)})", own) for names, own in by_backends.items()]
    rows += [
        row(what, own)
        for what, own in (
            ("`make fuzz`, calls in sequences", pieces("sequences")),
            ("`make hostile`", pieces("hostile")),
        )
        if own
    ]
    mutants = json.loads((RESULTS / "mutants.json").read_text())
    noticed = sum(each["found"].startswith("killed") for each in mutants.values())
    commits = dict.fromkeys(each["commit"][:7] for each in mutants.values())
    rows.append(f"| `make mutants` | {len(mutants):,} | {noticed:,} noticed | {', '.join(commits)} |")
    return "\n".join(["| campaign | of | what became of them | at commit |", "| --- | --- | --- | --- |", *rows, ""])


def row(what: str, own: Iterable[Piece]) -> str:
    outcomes, commits = Counter[str](), dict[str, None]()
    for each in own:
        outcomes.update(each["outcomes"])
        commits[each["commit"][:7]] = None
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
    return f"| {what} | {outcomes.total():,} | {told} | {', '.join(commits)} |"


def with_table(page: str) -> str:
    """The page with the table between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"
