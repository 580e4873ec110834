"""The output of `maskdsl explain --pair`: both tokens, every line with what decides it, and the verdict."""

from rich.console import Group
from rich.text import Text

from maskdsl.analysis.reasons.explanation import Explanation, explanation_rows, token_text


def pair_text(explanation: Explanation) -> Group:
    """The text of an explanation, with colours for yes and no."""
    tokens = (
        ("query", explanation.query, explanation.query_values),
        ("key  ", explanation.key, explanation.key_values),
    )
    rows = [Text(token_text(*each), style="bold") for each in tokens]
    for depth, text, holds in explanation_rows(explanation):
        mark = ("yes", "green") if holds else ("no", "red")
        rows.append(Text.assemble("    " * depth, text, "  ", mark))
    return Group(*rows, Text(explanation.verdict, style="bold"))
