"""Reads masks and their inputs from the words of a command line."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.cost.devices import DEVICES, Device, find_device
from maskdsl.analysis.orders.binding import bind_layers, bind_mask
from maskdsl.analysis.orders.layouts import layout_text, written_layout
from maskdsl.analysis.tiles.head_classes import Region
from maskdsl.api import BoundStack, Mask, Module, Pattern, Stack, load
from maskdsl.api.stacks import bound_stack
from maskdsl.base.diagnostics import AttnError, Diagnostic, nearest_name, warn
from maskdsl.base.errors.commands import command as errors
from maskdsl.base.records import dataclass
from maskdsl.cli.request.parameter_words import read_value
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.given_lists import holding
from maskdsl.ir.meaning.inputs import batch_entries, layer_inputs, relation_inputs
from maskdsl.ir.meaning.synthetic_inputs import entries_of, shape_of, synthetic_inputs
from maskdsl.ir.stack import StackIR
from maskdsl.view.terminal.show import written

SYNTHETIC_SEED = 0
_NUMBER = re.compile(r"[-+]?[0-9]")
"""The beginning of a word that can only be a value."""
_DECLARED = "declared order"
_MOST_BRANCHES = 6
"""The most branches of which pictures show each."""
_MOST_VALUES = 1 << 27
"""The most values of an input that is made up."""


@dataclass(frozen=True)
class Request:
    """A pattern and the values of its parameters."""

    pattern: Pattern
    values: Mapping[str, object]

    def bind(self, heads: Heads, order: str | None = None) -> Mask:
        """The mask for these heads. `order` is as in `order_words`; None keeps the pattern's own order."""
        words = None if order is None else order_words(order)
        mask = bind_mask(self.pattern.program, self.pattern.name, self.values, heads, words)
        warn(mask.cautions)
        return Mask(self.pattern, mask)


@dataclass(frozen=True)
class StackRequest:
    """A stack and the values of its parameters."""

    stack: Stack
    values: Mapping[str, object]

    def bind(self, heads: Heads) -> BoundStack:
        """The stack for these heads."""
        bound = bound_stack(self.stack, bind_layers(self.stack.program, self.stack.name, self.values, heads))
        warn(bound.ir.cautions)
        return bound


def read_request(file: str, words: Sequence[str]) -> Request:
    """The pattern that the words name. Raises `AttnError` (E520) for a stack; see `read_subject`."""
    subject = read_subject(file, words)
    if isinstance(subject, StackRequest):
        layers = ", ".join(f"`{_mask_words(mask)}`" for mask in subject.bind(Heads()).different)
        raise AttnError(errors.StackNotTaken(name=subject.stack.name, layers=layers))
    return subject


def _mask_words(mask: Mask) -> str:
    """A pattern and its parameters as words of a command line."""
    return " ".join([mask.name, *(f"{name}={written(value)}" for name, value in mask.ir.parameters)])


def read_subject(file: str, words: Sequence[str]) -> Request | StackRequest:
    """The pattern or stack that the first word without `=` names, or the only one; other words are `name=value`."""
    module = load(file)
    names = [word for word in words if "=" not in word]
    bare = next((word for word in words if word == "=" or _NUMBER.match(word)), None)
    if bare is not None:
        raise AttnError(errors.ValueWithoutName(word=bare, example=_example(module, words)))
    chosen = _named(module, names[0]) if names else _only_one(module, file)
    if len(names) > 1:
        nearest = nearest_name(names[1], chosen.parameters)
        raise AttnError(errors.StrayWord(pattern=chosen.name, word=names[1], nearest=nearest))
    values = _read_values([word for word in words if "=" in word])
    return Request(chosen, values) if isinstance(chosen, Pattern) else StackRequest(chosen, values)


def _example(module: Module, words: Sequence[str]) -> str:
    """What was probably meant by words one of which is a number or `=`: `n=4096`."""
    numbers = [word for word in words if _NUMBER.match(word)]
    names = [word for word in words if word.isidentifier() and word not in module.everything]
    known = next((name for each in module.everything.values() for name in each.parameters), "n")
    return f"{names[0] if names else known}={numbers[0] if numbers else 4096}"


def _named(module: Module, name: str) -> Pattern | Stack:
    return module.stack(name) if name in module.stacks else module[name]


def _only_one(module: Module, file: str) -> Pattern | Stack:
    """The only pattern that the file declares, else its only stack, else the only pattern of the files it uses.

    Of several patterns, the one that is called as the file.
    """
    everything = module.everything
    root = module.program.root.span.source
    here = [name for name in everything if everything[name].declaration.span.source is root]
    patterns = [name for name in here if name in module.program.patterns]
    names = patterns or here or list(module)
    if not names:
        raise AttnError(errors.NoPattern(file=file))
    if len(names) > 1:
        if (stem := Path(file).stem) in patterns:
            return everything[stem]
        kinds = "patterns" if len(here) == len(patterns) else "patterns and stacks"
        listed = ", ".join(f"`{name}`" for name in here or names)
        raise AttnError(errors.SeveralPatterns(file=file, what=kinds, known=listed))
    return everything[names[0]]


def _read_values(words: Sequence[str]) -> dict[str, object]:
    """The values of words `name=value`."""
    values: dict[str, object] = {}
    wrong: list[Diagnostic] = []
    for word in words:
        name, _, text = word.partition("=")
        name = name.strip()
        if name in values:
            wrong.append(errors.RepeatedParameter(name=name))
        try:
            values[name] = read_value(text)
        except AttnError as error:
            wrong += error.diagnostics
    if wrong:
        raise AttnError(*wrong)
    return values


_LISTS = (("starts", "columns"), ("indptr", "indices"))
"""Names of the arrays of a list in a file: of `numpy.savez`, and of `scipy.sparse.save_npz`."""


def read_arrays(texts: Sequence[str]) -> dict[str, Any]:
    """The arrays of options `--input name=file.npy`; of a file with a list in compressed rows, its two arrays."""
    arrays: dict[str, Any] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise AttnError(errors.NotAnInput(text=text))
        try:
            loaded = np.load(Path(file), allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError, BadZipFile) as error:
            reason = (
                error.strerror if isinstance(error, OSError) else None
            ) or "it is not an array written by numpy.save"
            raise AttnError(errors.UnreadableInput(name=name, file=file, reason=reason)) from None
        lists = [names for names in _LISTS if not isinstance(loaded, np.ndarray) and {*names} <= {*loaded}]
        if lists and loaded.get("format", np.array("csr")).item() in ("csr", b"csr"):
            arrays[name] = tuple(loaded[each] for each in lists[0])
            continue
        if not isinstance(loaded, np.ndarray):
            raise AttnError(errors.UnreadableInput(name=name, file=file, reason="it holds several arrays"))
        arrays[name] = loaded
    return arrays


@dataclass(frozen=True, eq=False)
class Inputs:
    """Arrays for a mask, and the names of those that were made up."""

    arrays: Mapping[str, NDArray[Any]]
    made: tuple[str, ...]


def complete(
    mask: MaskIR, given: Mapping[str, NDArray[Any]], needed: frozenset[str], batch: int = 1, dim: int = 64
) -> Inputs:
    """The given arrays, and plausible made-up values for the other needed inputs. Raises `AttnError` (E519)."""
    given = holding(mask.inputs, given)
    batch = batch_entries(mask, given, batch)
    wanted = [each for each in mask.given if each.name in needed and each.name not in given]
    synthetic = synthetic_inputs(mask, SYNTHETIC_SEED, batch, dim, _MOST_VALUES, given)
    for each in wanted:
        if each.name not in synthetic:
            shape = " x ".join(map(str, shape_of(each, batch, dim, entries_of(each))))
            raise AttnError(errors.TooLargeToMake(name=each.name, shape=shape, limit=_MOST_VALUES, span=each.span))
    made = {each.name: synthetic[each.name] for each in wanted}
    return Inputs({**given, **made}, tuple(made))


def complete_all(stack: StackIR, given: Mapping[str, NDArray[Any]]) -> Inputs:
    """As `complete`, for inputs that decide the tiles of layers. Layers with an input of the same name share it."""
    arrays = dict(given)
    made: dict[str, None] = {}
    for number, mask in enumerate(stack.different):
        completed = complete(mask, layer_inputs(stack, arrays)[number], relation_inputs(mask))
        arrays |= completed.arrays
        made |= dict.fromkeys(completed.made)
    return Inputs(arrays, tuple(made))


def read_block(text: str) -> tuple[int, int]:
    """The queries and keys of a tile, from `128` or `128x64`."""
    match = re.fullmatch(r"([1-9]\d{0,8})(?:x([1-9]\d{0,8}))?", text)
    if match is None:
        raise AttnError(errors.NotABlock(text=text))
    return int(match[1]), int(match[2] or match[1])


def read_region(mask: MaskIR, rows: str | None, columns: str | None) -> Region:
    """The queries and keys of `--rows` and `--columns`; all if one is left out."""
    return (
        _read_range(rows, mask.queries.length, "--rows", "queries"),
        _read_range(columns, mask.keys.length, "--columns", "keys"),
    )


def _read_range(text: str | None, length: int, option: str, what: str) -> slice:
    """Positions in the order shown, from `100:164`, `100:`, `:164`, or `100` for one; from 0, the end excluded."""
    if text is None:
        return slice(None)
    match = re.fullmatch(r"(\d{1,12})?(:)?(\d{1,12})?", text)
    if match is None or text in ("", ":"):
        raise AttnError(errors.NotARange(option=option, text=text))
    start = int(match[1] or 0)
    stop = int(match[3] or length) if match[2] else start + 1
    if not start < stop <= length:
        raise AttnError(errors.RangeOutside(option=option, text=text, length=length, what=what))
    return slice(start, stop)


def read_heads(heads: Sequence[int], count: int) -> list[int]:
    """The given heads; all heads if none is given."""
    for head in heads:
        if not 0 <= head < count:
            raise AttnError(errors.UnknownHead(head=head, heads=count))
    return sorted(set(heads)) or list(range(count))


def read_gpus(names: Sequence[str]) -> tuple[Device, ...]:
    """The GPUs of these names; all known ones if a name is `all`."""
    return DEVICES if "all" in names else tuple(map(find_device, dict.fromkeys(names)))


def choose(what: str, name: str, known: Sequence[str]) -> str:
    """The name, if it is known. Raises `AttnError` (E508) otherwise."""
    if name not in known:
        listed = ", ".join(f"`{each}`" for each in known)
        raise AttnError(errors.UnknownChoice(what=what, name=name, known=listed, nearest=nearest_name(name, known)))
    return name


def order_words(order: str) -> str:
    """The text after the word `order`, with `by` added to orders without it."""
    orders = [each.strip() for each in order.split(";")]
    complete = re.compile(r"declared|.*\bby\b.*|(\w+ )?auto")
    return "; ".join(each if complete.fullmatch(each) else f"by {each}" for each in orders)


def in_pictures(masks: Sequence[Mask]) -> tuple[Mask, ...]:
    """The masks of pictures: in place of a pattern with few branches each of them; else all branches together."""
    each = (mask.branches if len(mask.branches) <= _MOST_BRANCHES else () for mask in masks)
    return tuple(one for mask, branches in zip(masks, each, strict=True) for one in branches or (mask,))


def picture_text(mask: MaskIR) -> str:
    """The branch and the order of a mask, or that it is several branches."""
    order = order_text(mask)
    if mask.branches:
        return f"{len(mask.branches)} branches together, {order}"
    plain = order == _DECLARED
    return ", ".join(filter(None, (mask.branch and f"branch {mask.branch}", "" if mask.branch and plain else order)))


def order_text(mask: MaskIR) -> str:
    """The order of a mask: `declared order`, or the `order` statement that gives it."""
    layout = written_layout(mask)
    return f"order {layout_text(mask, layout)}" if layout else _DECLARED
