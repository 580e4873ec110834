"""Warnings about lines are true of the dense meaning, whatever the inputs, on random patterns with lines added."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.analysis.lint.line_facts import line_warnings, mask_warnings
from maskdsl.ir.meaning.evaluate import Pairs
from maskdsl.testing import inputs_for
from tests.support.drawn import examples
from tests.support.properties import cases

MORE = (
    "attend q == k and q != k",
    "attend all -> all where q.i == k.i + 1000",
    "require q.i >= 0",
    "require k.i < q.i",
    "attend k.i < q.i - 2",
    "",
)
"""Lines that attend nothing, cut nothing, or leave queries without keys."""


def values(mask, relation, inputs, batch, head):
    """bool [queries, keys]: for which pairs a relation holds, or reads outside a table, which nothing asks for."""
    queries, keys = np.arange(mask.queries.length)[:, None], np.arange(mask.keys.length)[None, :]
    return Pairs(mask, queries, keys, head, batch, inputs).evaluate(relation, np.asarray(False))


def attending(mask, attend, require, inputs, batch, head):
    """bool [queries, keys]: which pairs attend by these lines."""
    result = np.zeros((mask.queries.length, mask.keys.length), dtype=bool)
    for each in attend:
        result |= values(mask, each.relation, inputs, batch, head)
    for each in require:
        result &= values(mask, each.relation, inputs, batch, head)
    return result


def is_true(caution, mask, *call):
    """Whether a warning holds for the head of a call: its inputs, batch entry and head."""
    whole = attending(mask, mask.attend, mask.require, *call)
    attend, require = ([each for each in lines if each.span != caution.span] for lines in (mask.attend, mask.require))
    match caution.code:
        case "W003":
            return not whole.any()
        case "W004":
            (line,) = (each for each in mask.attend if each.span == caution.span)
            return not values(mask, line.relation, *call).any()
        case "W005" | "W006":
            return np.array_equal(whole, attending(mask, attend, require, *call))
        case "W009":
            return not whole[caution.position].any()
        case "W015":
            return mask.normalize == "softmax by k" and not np.triu(whole, 1).any()
        case code:
            raise AssertionError(code)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=examples(25), deadline=None)
@given(cases(), st.sampled_from(MORE), st.data())
def test_warnings_are_true(case, more, data):
    text = case.pattern.text.rstrip().removesuffix("}") + f"    {more}\n}}\n"
    try:
        mask = maskdsl.parse(text)["random_pattern"].bind(heads=case.pattern.heads).ir
    except maskdsl.AttnError:
        return
    inputs = data.draw(inputs_for(mask, case.batch))
    for caution in (*mask_warnings(mask), *line_warnings(mask)):
        for batch in range(case.batch):
            heads = [is_true(caution, mask, inputs, batch, head) for head in range(mask.heads)]
            assert any(heads) if caution.code == "W009" else all(heads), (caution.code, text)
