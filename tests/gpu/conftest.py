"""What kernels leave unwritten is NaN."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.gpu import tensors


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def poisoning(make: Any) -> Any:
        return lambda *arguments, **options: tensors.poisoned(make(*arguments, **options))

    monkeypatch.setattr(torch, "empty", poisoning(tensors.empty))
    monkeypatch.setattr(torch, "empty_like", poisoning(tensors.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoning(tensors.new_empty))
    yield
