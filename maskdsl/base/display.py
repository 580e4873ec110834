"""Objects that notebooks draw. The drawing function belongs to a higher layer, which registers it by `draw_by`."""

from abc import ABC, abstractmethod
from collections.abc import Callable

_drawings: list[Callable[..., str]] = []


def draw_by(drawing: Callable[..., str]) -> None:
    """Registers `drawing`, which makes HTML of the values that `_shown_` returns."""
    _drawings[:] = [drawing]


class Displayed(ABC):
    """An object with a picture in notebooks, through the methods that IPython looks for."""

    @abstractmethod
    def _shown_(self) -> tuple[object, ...]:
        """The values that `view.notebook.html` draws."""

    def _repr_html_(self) -> str:
        (drawing,) = _drawings
        return drawing(*self._shown_())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """The text and the HTML; the frontend chooses which to show."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
