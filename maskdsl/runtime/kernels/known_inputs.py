"""What calls share whose inputs are the same tensors, unchanged: tiles found on a device, orders, tables of tokens.

Tensors are known by identity and version, for which nothing has to wait for a device. Some writes do not change a
version: those through `.data`, by collectives and other kernels, and by the replay of a CUDA graph.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from threading import Lock
from weakref import ref

import torch
from torch import Tensor

from maskdsl.runtime.base.kept import Kept, in_no_mode


class KnownInputs(Kept):
    """What calls with certain inputs share: inputs of these numbers are known not to change, or all are."""

    def __init__(self, inputs: Sequence[Tensor], numbers: Sequence[int]) -> None:
        super().__init__()
        with in_no_mode():
            self.aliases = {number: inputs[number].data for number in numbers}
        """They hold the memory, whose address no other tensor takes meanwhile, but not the caller's tensors."""
        self.are_all = len(numbers) == len(inputs)
        self.calls: dict[object, Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]] = {}
        """Functions of calls, by all else that they depend on; none where some inputs are not known."""

    def passed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The inputs, with aliases in place of those that are known: what is kept may refer to them."""
        return [self.aliases.get(number, x) for number, x in enumerate(inputs)]


class LastInputs:
    """The last inputs of a mask's calls that are known, for as long as the caller's tensors live. Thread-safe."""

    LIMIT = 8

    def __init__(self) -> None:
        self.known: dict[object, tuple[KnownInputs, list[ref[Tensor]]]] = {}
        self.lock = Lock()

    def find(self, inputs: Sequence[Tensor], numbers: Sequence[int]) -> KnownInputs | None:
        """What calls share whose inputs of these numbers, one or more, are the same tensors.

        None where changes would not show: of tensors made in inference mode, of parameters, which optimizers may write
        to unseen, and while a CUDA graph is captured, which may be replayed after such a change.
        """
        stream = stream_of(inputs[numbers[0]].device)
        identities = tuple(_identity(inputs[number]) for number in numbers)
        if stream is None or None in identities:
            return None
        key = stream, identities
        with self.lock:
            entry = self.known.pop(key, None)
            if entry is None:
                bases = [_base(inputs[number]) for number in numbers]
                entry = KnownInputs(inputs, numbers), [ref(each, partial(self._forget, key)) for each in bases]
            self.known[key] = entry  # the last one again
            while len(self.known) > self.LIMIT:
                del self.known[next(iter(self.known))]
        return entry[0]

    def _forget(self, key: object, _: object) -> None:
        """Without the lock: a tensor may die in any line of any thread. Dictionaries are changed in one step."""
        self.known.pop(key, None)


def stream_of(device: torch.device) -> object | None:
    """What orders the work on this device: other streams do not wait for it. None while a CUDA graph is captured."""
    if device.type != "cuda":
        return device
    with torch.cuda.device(device):
        return None if torch.cuda.is_current_stream_capturing() else torch.cuda.current_stream()


def shared_zeros(x: Tensor) -> Tensor:
    """Zeros shaped as x, all of them one number, which is written once for all that is done in the order of a stream.

    So that a pass backward launches nothing for the gradient that most calls have not.
    """
    stream = stream_of(x.device)
    return (_zero(x.dtype, x.device) if stream is None else _kept_zero(x.dtype, x.device, stream)).expand(x.shape)


def _zero(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.zeros((), dtype=dtype, device=device)


@lru_cache(maxsize=64)
def _kept_zero(dtype: torch.dtype, device: torch.device, stream: object) -> Tensor:
    return _zero(dtype, device)


def _base(x: Tensor) -> Tensor:
    """The tensor of which x is a view, or x: views of a tensor share its version."""
    base: Tensor | None = x._base
    return x if base is None else base


def _identity(x: Tensor) -> tuple[object, ...] | None:
    """Equal for tensors that have the same elements, as long as both live; None where changes would not show."""
    base = _base(x)
    if x.is_inference() or not type(x) is type(base) is Tensor or x.requires_grad or base.requires_grad:
        return None
    return id(base), x._version, x.data_ptr(), x.shape, x.stride(), x.dtype
