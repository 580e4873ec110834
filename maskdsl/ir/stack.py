"""A bound stack: the masks of its layers, equal masks stored once. Made by `maskdsl.bind.bind_stack`."""

from dataclasses import field

from maskdsl.base.diagnostics import Caution
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.mask import MaskIR


@dataclass(frozen=True)
class StackIR:
    """Layers of self-attention over one sequence, first to last."""

    name: str
    parameters: tuple[tuple[str, object], ...]
    heads: int
    different: tuple[MaskIR, ...]
    """The distinct masks, in order of first occurrence."""
    index: tuple[int, ...]
    """For each layer, the number of its mask in `different`."""
    doc: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def layers(self) -> tuple[MaskIR, ...]:
        """The mask of each layer."""
        return tuple(self.different[number] for number in self.index)

    @property
    def length(self) -> int:
        """Tokens of the sequence."""
        return self.different[0].queries.length

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs that callers give to some layer, each name once; inputs of one name are declared alike."""
        return tuple({each.name: each for mask in self.different for each in mask.given}.values())

    @property
    def cautions(self) -> tuple[Caution, ...]:
        """The warnings of all layers, each once."""
        return tuple({(each.code, each.span): each for mask in self.different for each in mask.cautions}.values())

    def count(self, number: int) -> int:
        """The number of layers whose mask is `different[number]`."""
        return self.index.count(number)
