"""Tree and parameter values to a mask: names, macros, types, guards, folding. User errors of meaning are here."""

from maskdsl.bind.pattern import bind, find_pattern
from maskdsl.bind.report import Together
from maskdsl.bind.stack import bind_stack

__all__ = ["Together", "bind", "bind_stack", "find_pattern"]
