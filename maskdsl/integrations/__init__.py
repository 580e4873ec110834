"""Patterns in the libraries that people have: one module for each, which imports it.

They are made of what `maskdsl` exports and of `LayerPatterns`, which says what a layer of a model computes; all this
imports torch.
"""

from maskdsl.integrations.layers import Layer, LayerPatterns, rescaled

__all__ = ["Layer", "LayerPatterns", "rescaled"]
