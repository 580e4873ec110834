"""`SelectedTables`: what the routes of one call have selected, for callers that ask."""

from collections.abc import Sequence

from torch import Tensor

from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import OfInputs
from maskdsl.ir.values.group_scores import GroupScores


class SelectedTables:
    """The selections of a call by the names of their routes, as calls and `maskdsl.Mask` take them by name."""

    def __init__(self) -> None:
        self.tables: dict[str, Tensor] = {}

    def add(self, mask: MaskIR, names: Sequence[str], tables: Sequence[Tensor]) -> None:
        """Adds those of a mask, or of one branch, among the routed inputs of these names."""
        wanted = {each.name for each in mask.routed if not isinstance(each, OfInputs | GroupScores)}
        self.tables |= {name: x for name, x in zip(names, tables, strict=True) if name in wanted}
