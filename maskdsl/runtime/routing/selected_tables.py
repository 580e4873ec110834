"""`SelectedTables`: what the routes of one call have selected, for callers that ask."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import OfInputs
from maskdsl.ir.values.entries import HEAD
from maskdsl.ir.values.group_scores import GroupScores


class SelectedTables:
    """The selections of a call by the names of their routes, as calls and `maskdsl.Mask` take them by name."""

    def __init__(self) -> None:
        self.tables: dict[str, Tensor] = {}

    def add(self, mask: MaskIR, names: Sequence[str], tables: Sequence[Tensor]) -> None:
        """Adds those of a mask, or of one branch, among the routed inputs of these names."""
        wanted = {each.name for each in mask.routed if not isinstance(each, OfInputs | GroupScores)}
        for name, x in zip(names, tables, strict=True):
            declared = mask.input(name)
            if name in wanted and declared is not None:
                self.tables[name] = _table(declared, x) if declared.sparse else x


def _table(declared: Input, held: Tensor) -> Tensor:
    """The table, bool [..., rows, columns], of the entries in a sparse input's tensor."""
    rows, columns = (each.size or 0 for each in declared.dimensions[-2:])
    starts, numbers = held[..., HEAD : HEAD + rows + 1], held[..., HEAD + rows + 1 :]
    positions = torch.arange(numbers.shape[-1], device=held.device).expand_as(numbers).contiguous()
    row = torch.searchsorted(starts[..., 1:].contiguous(), positions, right=True)
    entry = torch.where(numbers >= 0, row * columns + numbers, rows * columns)  # the last one is for no entry
    table = torch.zeros(*held.shape[:-1], rows * columns + 1, dtype=torch.bool, device=held.device)
    return table.scatter_(-1, entry, True)[..., :-1].view(*held.shape[:-1], rows, columns)
