"""Binds a syntax tree and parameter values to a mask: names, macros, types, guards, folding, and errors of meaning."""

from maskdsl.bind.bind_pattern import bind, find_pattern
from maskdsl.bind.bind_stack import bind_stack
from maskdsl.bind.context.report import Together

__all__ = ["Together", "bind", "bind_stack", "find_pattern"]
