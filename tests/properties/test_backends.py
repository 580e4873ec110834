"""Random patterns through both torch backends, forward and backward, in float64."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.drawn import examples
from tests.support.properties import calls, check_backends, check_decoding, check_layout, check_order
from tests.support.ragged import check_ragged

ORDERS = st.sampled_from(["by shuffle(i, 3)", "by -i % 5, i // 3", "by i * 7 % 11", "by 0"])


@settings(max_examples=examples(150))
@given(calls())
def test_backends_agree_with_the_meaning(call):
    check_backends(*call)


@settings(max_examples=examples(60))
@given(calls(), ORDERS)
def test_an_order_changes_no_result(call, order):
    check_order(call[0], order, *call[1:])


@settings(max_examples=examples(60))
@given(calls())
def test_callers_may_lay_tokens_out(call):
    check_layout(*call)


@settings(max_examples=examples(80))
@given(calls(), st.sampled_from(["tiled", "reference"]), st.integers(0, 99))
def test_queries_may_stand_anywhere(call, backend, seed):
    case, *tensors = call
    check_decoding(case, backend, seed, *tensors)


@settings(max_examples=examples(60))
@given(calls(batches=(1, 3, 5)), st.sampled_from(["native", "tiled", "reference"]), st.integers(0, 99))
def test_packed_queries_over_pages(call, backend, seed):
    case, *tensors = call
    check_ragged(case, backend, seed, *tensors)
