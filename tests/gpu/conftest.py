"""What kernels leave unwritten is NaN, and a GPU that is lost ends its process."""

import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import torch
from contact.child import is_lost

from tests.gpu import tensors


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def poisoning(make: Any) -> Any:
        return lambda *arguments, **options: tensors.poisoned(make(*arguments, **options))

    monkeypatch.setattr(torch, "empty", poisoning(tensors.empty))
    monkeypatch.setattr(torch, "empty_like", poisoning(tensors.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoning(tensors.new_empty))
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After an error of the GPU that stays, every later test of the process would fail by it.

    A worker of xdist ends, and another takes its place; the test counts as failed. Without workers the run ends.
    """
    report = yield
    if call.excinfo is not None and not report.skipped and is_lost():
        why = f"the GPU is lost after {item.nodeid}: {call.excinfo.value}"
        if hasattr(item.config, "workerinput"):
            os.write(2, f"{why}\n".encode())
            os._exit(1)
        item.session.shouldstop = why
    return report
