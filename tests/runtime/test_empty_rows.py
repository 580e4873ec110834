"""A query without any score of more than minus infinity is an empty row, on every backend and every way to it."""

import pytest
import torch

from tests.runtime.empty_rows import FILLS, RELATIONS, Padded

BACKENDS = ("reference", "tiled")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("relation", RELATIONS)
def test_gradients_of_output_and_log_sum_exp(relation, fill, dtype, backend):
    Padded(relation, fill, dtype).check_gradients_of_both(backend)


@pytest.mark.parametrize(
    ("backend", "length"),
    [("reference", 256), ("tiled", 256), ("tiled", 1024), pytest.param("reference", 1024, marks=pytest.mark.long)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("relation", RELATIONS)
def test_as_near_as_torch_itself(relation, fill, dtype, length, backend):
    Padded(relation, fill, dtype, length).check_against_sdpa(backend)
