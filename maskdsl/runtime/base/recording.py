"""Autograd inside the kernels of torch's operators, below which torch excludes it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_AUTOGRAD = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradFunctionality) | torch._C.DispatchKeySet(
    torch._C.DispatchKey.ADInplaceOrView
)


@contextmanager
def recording() -> Iterator[None]:
    """A context that enables autograd inside an operator's kernel: backward passes differentiate small graphs."""
    include, exclude = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    with torch._C._ForceDispatchKeyGuard(include, exclude - _AUTOGRAD):
        yield
