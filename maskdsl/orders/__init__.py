"""The order of tokens in which a pattern needs the least work: candidates, their tiles, and the search among them.

Exact block maps are compared, so that the pattern's meaning decides and no rule of thumb. Above `analysis`, below what
is generated; nothing here needs torch.
"""

from maskdsl.orders.auto import settled
from maskdsl.orders.best import BestOrder, Row, best_order

__all__ = ["BestOrder", "Row", "best_order", "settled"]
