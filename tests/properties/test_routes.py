"""Random routes: tiles, backends and gradients against the oracle, which finds pairs in its own way."""

from hypothesis import given
from hypothesis import strategies as st

import maskdsl
from maskdsl.api.verify import Case, prepared, problem
from tests.support.random_routes import routes


@given(
    routes(),
    st.integers(1, 40),
    st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]),
    st.integers(1, 2),
    st.integers(0, 99),
)
def test_routes(text: str, n: int, heads: tuple[int, int], batch: int, seed: int) -> None:
    case = Case({"n": n}, heads=heads[0], key_heads=heads[1], batch=batch, dim=16, seed=seed)
    pattern = maskdsl.parse(text)["p"]
    assert prepared(pattern, case) is not None
    assert problem(pattern, case, ("tiled", "reference")) is None, text
