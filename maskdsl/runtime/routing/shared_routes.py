"""`SharedRoutes`: what the branches of one call have selected, so that routes of several branches are found once."""

from collections.abc import Callable

from torch import Tensor
from torch.compiler import is_compiling

from maskdsl.runtime.compiled.compiled_mask import CompiledMask


class SharedRoutes:
    """The routed inputs of one call, by the routes and tokens of the masks that read them."""

    def __init__(self) -> None:
        self.known: dict[str, list[Tensor]] = {}

    def with_routed(
        self, compiled: CompiledMask, lengths: tuple[int, int], inputs: list[Tensor], find: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        """All inputs of a mask: the given ones, then the routed ones, which `find` gives with those before them.

        Graphs find them for each branch: no mask is bound while they are traced.
        """
        if is_compiling() or not compiled.signature.is_routed:
            return find()
        routes = compiled.bound(*lengths).routes_digest
        if routes not in self.known:
            self.known[routes] = find()[len(inputs) :]
        return [*inputs, *self.known[routes]]
