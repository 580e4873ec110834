"""What operators find a compiled mask by."""

from typing import NamedTuple

from torch.compiler import is_exporting


class Handle(NamedTuple):
    """The names of a compiled mask, as operators take them."""

    name: str
    """In this process, and in what `torch.compile` makes."""
    carried: str
    """In exported programs: the name, and behind it the text of which other processes make the mask."""

    def in_graphs(self) -> str:
        """What operators take that torch may be tracing."""
        return self.carried if is_exporting() else self.name
