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
        row = Text.assemble("    " * depth, text)
        if holds is not None:
            row.append(*(("  yes", "green") if holds else ("  no", "red")))
        rows.append(row)
    return Group(*rows, Text(explanation.verdict, style="bold"))
