"""Things that show themselves in notebooks. What draws them stands above them, and says so to `draw_by`."""

from abc import ABC, abstractmethod
from collections.abc import Callable

_drawings: list[Callable[..., str]] = []


def draw_by(drawing: Callable[..., str]) -> None:
    """`drawing(*parts)` gives the HTML of what has these parts."""
    _drawings[:] = [drawing]


class Displayed(ABC):
    """Something with a picture. Jupyter, and what is like it, asks for it by these names."""

    @abstractmethod
    def _parts_(self) -> tuple[object, ...]:
        """What `view.notebook.html` draws."""

    def _repr_html_(self) -> str:
        (drawing,) = _drawings
        return drawing(*self._parts_())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Both as text and as HTML; which of them is shown, the frontend chooses."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
