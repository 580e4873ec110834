"""Settings of all tests of modules."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Modules this small only wait for threads. Weights are random, the same in each test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
