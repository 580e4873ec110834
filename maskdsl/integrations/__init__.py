"""Patterns in other libraries: one module for each library, which imports it. Everything here imports torch.

Integrations use what `maskdsl` exports, and `LayerPatterns`, which decides what a layer of a model computes.
"""

from maskdsl.base.libraries import missing

try:
    import torch as torch
except ImportError as error:
    raise missing(error, "`maskdsl.integrations`", "torch") from error

from maskdsl.integrations.layers import Layer, LayerPatterns, rescaled

__all__ = ["Layer", "LayerPatterns", "rescaled"]
