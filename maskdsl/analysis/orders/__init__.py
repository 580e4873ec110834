"""Masks bound and laid out; the order of tokens in which a pattern needs the least work, and the search for it.

Exact block maps are compared, so that the pattern's meaning decides and no rule of thumb. Above `analysis`, below what
is generated; nothing here needs torch.
"""

from maskdsl.analysis.orders.best import BestOrder, Row, best_order
from maskdsl.analysis.orders.binding import bind_layers, bind_mask, check_defaults

__all__ = ["BestOrder", "Row", "best_order", "bind_layers", "bind_mask", "check_defaults"]
