"""Several processes, over gloo: heads of a whole attention, and what is refused where tokens are shared out."""

import pytest
import torch

from tests.distributed.processes import on_processes
from tests.runtime.processes import check


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no processes")
def test_two_processes() -> None:
    on_processes(2, check)
