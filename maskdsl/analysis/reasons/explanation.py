"""The explanation of one pair as frozen data, with its text, its HTML for notebooks, and plain data for JSON."""

from collections.abc import Iterator, Mapping
from typing import Any

from maskdsl.base.records import dataclass
from maskdsl.base.text import markup, printable

Token = Mapping[str, int | float | bool]
"""The coordinates of a token by name."""
_MOST_BRANCHES = 8
"""The most branches that are shown one by one although they do not attend the pair."""
_YES_NO = {True: "yes", False: "no"}


@dataclass(frozen=True)
class Reason:
    """A condition as written, whether it holds for the pair, and why."""

    text: str
    holds: bool
    because: str = ""
    """What decides, with the values of the pair: `k.t = 5 is outside 0 to 2`, or `4 <= 5`."""
    operands: tuple["Reason", ...] = ()
    """The conditions that it is made of."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        values: dict[str, Any] = {"text": self.text, "holds": self.holds}
        if self.because:
            values["because"] = self.because
        if self.operands:
            values["operands"] = [each.as_dict() for each in self.operands]
        return values


@dataclass(frozen=True)
class LineReason:
    """An `attend` or `require` line, evaluated for the pair."""

    line: str
    """The file and the number of the line: `longformer.attn:6`."""
    kind: str
    """`attend` or `require`."""
    reason: Reason


@dataclass(frozen=True)
class ScoreLine:
    """A line about the score, the probability or the value of a pair that attends."""

    line: str
    """The file and the number of the line."""
    text: str
    value: str = ""
    """What it says, with the values that are known; empty for vectors, and where it says no more than the text."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"line": self.line, "text": self.text} | ({"value": self.value} if self.value else {})


@dataclass(frozen=True)
class Explanation:
    """Why a query and a key of a mask attend or not, in one head and batch entry. `str()` has all of it, as lines."""

    pattern: str
    query: int
    """The position of the query, in declared order; `key` likewise."""
    key: int
    head: int
    batch: int
    query_values: Token
    """The coordinates of the query: its axes, and the declared ones that some line reads."""
    key_values: Token
    attends: bool
    lines: tuple[LineReason, ...]
    """All `attend` lines, then all `require` lines; none of a pattern with branches, whose branches have them."""
    scores: tuple[ScoreLine, ...] = ()
    """What becomes of the score of a pair that attends, in the order of the text."""
    probability: str = ""
    """What makes the probability of that; empty where nothing is said of scores."""
    branch: str = ""
    """The branch that this is the explanation of; empty for a whole pattern."""
    branches: tuple["Explanation", ...] = ()
    """The explanation of each branch."""

    @property
    def deciding(self) -> tuple[LineReason, ...]:
        """The lines that decide: those that attend an attending pair, else the `require` lines that fail, if any."""
        if self.branches:
            decisive = [each for each in self.branches if each.attends == self.attends]
            return tuple(dict.fromkeys(line for each in decisive for line in each.deciding))
        if self.attends:
            return tuple(each for each in self.lines if each.kind == "attend" and each.reason.holds)
        failed = tuple(each for each in self.lines if each.kind == "require" and not each.reason.holds)
        return failed if self._is_allowed else tuple(each for each in self.lines if each.kind == "attend")

    @property
    def _is_allowed(self) -> bool:
        return any(each.kind == "attend" and each.reason.holds for each in self.lines)

    @property
    def verdict(self) -> str:
        """One sentence: `query 17 does not attend key 4093: no attend line allows it`."""
        pair = f"query {self.query} {'attends' if self.attends else 'does not attend'} key {self.key}"
        if self.branches:
            names = [each.branch for each in self.branches if each.attends]
            return f"{pair} in {_branch_names(names) if names else 'any branch'}"
        if not self._is_allowed:
            return f"{pair}: no `attend` line allows it"
        lines, s = ", ".join(each.line for each in self.deciding), "s" * (len(self.deciding) == 1)
        return f"{pair}: {lines} {'allow' if self.attends else 'forbid'}{s} it"

    def __str__(self) -> str:
        tokens = (("query", self.query, self.query_values), ("key  ", self.key, self.key_values))
        rows = [printable(token_text(*each)) for each in tokens]
        rows += [
            f"{'    ' * depth}{printable(text)}{'' if holds is None else f'  {_YES_NO[holds]}'}"
            for depth, text, holds in explanation_rows(self)
        ]
        return "\n".join([*rows, printable(self.verdict)])

    def _repr_html_(self) -> str:
        return f"<pre>{markup(str(self))}</pre>"

    def _line_data(self) -> dict[str, Any]:
        lines: dict[str, Any] = {
            kind: [{"line": each.line, **each.reason.as_dict()} for each in self.lines if each.kind == kind]
            for kind in ("attend", "require")
        }
        if self.probability:
            lines |= {"scores": [each.as_dict() for each in self.scores], "probability": self.probability}
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        branches = {each.branch: {"attends": each.attends, **each._line_data()} for each in self.branches}
        lines = {"branches": branches} if branches else self._line_data()
        return {
            "pattern": self.pattern,
            "query": {"position": self.query, **self.query_values},
            "key": {"position": self.key, **self.key_values},
            "head": self.head,
            "attends": self.attends,
            "verdict": self.verdict,
            **lines,
        }


def token_text(name: str, position: int, values: Token) -> str:
    """`query 17   y = 0, x = 17`."""
    return f"{name} {position}   {', '.join(f'{axis} = {value}' for axis, value in values.items())}".rstrip()


def explanation_rows(explanation: Explanation) -> Iterator[tuple[int, str, bool | None]]:
    """The rows of all lines: how deep each is, its text without yes or no, and which of both it is, if any.

    Of many branches, only those that attend the pair.
    """
    for line in explanation.lines:
        yield from _rows_of(line)
    yield from _score_rows(explanation)
    branches = explanation.branches
    for each in branches:
        if each.attends or len(branches) <= _MOST_BRANCHES:
            yield 0, f"branch {each.branch}", each.attends
            yield from ((depth + 1, text, holds) for depth, text, holds in explanation_rows(each))


def _score_rows(explanation: Explanation) -> Iterator[tuple[int, str, None]]:
    for each in explanation.scores:
        yield 0, f"{each.line}  {each.text}{f': {each.value}' if each.value else ''}", None
    if explanation.probability:
        yield 0, f"probability: {explanation.probability}", None


def _branch_names(names: list[str]) -> str:
    listed = ", ".join(f"`{name}`" for name in names[:_MOST_BRANCHES])
    return f"{listed} and {len(names) - _MOST_BRANCHES} more" if len(names) > _MOST_BRANCHES else listed


def _rows_of(line: LineReason) -> Iterator[tuple[int, str, bool]]:
    yield 0, f"{line.line}  {line.reason.text}{_because(line.reason)}", line.reason.holds
    yield from _operand_rows(line.reason, 1)


def _operand_rows(reason: Reason, depth: int) -> Iterator[tuple[int, str, bool]]:
    for each in reason.operands:
        yield depth, f"{each.text}{_because(each)}", each.holds
        yield from _operand_rows(each, depth + 1)


def _because(reason: Reason) -> str:
    return f": {reason.because}" if reason.because else ""
