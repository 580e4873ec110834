"""Runs compiled masks on torch tensors: the attention modules, their operators, backends and caches. Imports torch."""

from maskdsl.base.libraries import missing

try:
    import torch as torch
except ImportError as error:
    raise missing(error, "computing attention", "torch") from error
