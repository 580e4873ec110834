"""Things that show themselves in notebooks. What draws them stands above them, and is found by its name when needed."""

from abc import ABC, abstractmethod
from importlib import import_module

DRAWING = "maskdsl.view.notebook"


class Displayed(ABC):
    """Something with a picture. Jupyter, and what is like it, asks for it by these names."""

    @abstractmethod
    def _parts_(self) -> tuple[object, ...]:
        """What `view.notebook.html` draws."""

    def _repr_html_(self) -> str:
        drawn: str = import_module(DRAWING).html(*self._parts_())
        return drawn

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Both as text and as HTML; which of them is shown, the frontend chooses."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
