"""The types of arrays, for annotations. At run time they are plain classes: importing `numpy.typing` takes long."""

from typing import TYPE_CHECKING

from numpy import ndarray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ArrayLike
    from numpy.typing import NDArray as NDArray
else:
    ArrayLike = object
    NDArray = ndarray
