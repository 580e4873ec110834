"""A bound stack: the masks of its layers, equal ones once. Made by `maskdsl.bind.bind_stack`."""

from dataclasses import dataclass, field

from maskdsl.base.diagnostics import Caution
from maskdsl.base.source import Span
from maskdsl.ir.mask import Input, MaskIR


@dataclass(frozen=True)
class StackIR:
    """Layers of self-attention over one sequence, first to last."""

    name: str
    parameters: tuple[tuple[str, object], ...]
    heads: int
    different: tuple[MaskIR, ...]
    """In the order in which they come first."""
    index: tuple[int, ...]
    """For every layer, which of these it is."""
    doc: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def layers(self) -> tuple[MaskIR, ...]:
        return tuple(self.different[number] for number in self.index)

    @property
    def length(self) -> int:
        """Tokens of the sequence."""
        return self.different[0].queries.length

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Those of all layers; ones of the same name are alike."""
        return tuple({each.name: each for mask in self.different for each in mask.given}.values())

    @property
    def cautions(self) -> tuple[Caution, ...]:
        """Warnings of all layers; each once."""
        return tuple({(each.code, each.span): each for mask in self.different for each in mask.cautions}.values())

    def count(self, number: int) -> int:
        """How many layers are `different[number]`."""
        return self.index.count(number)
