"""The words of a command line to masks and their inputs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.api import Mask, Module, Pattern, load
from maskdsl.bind import bind
from maskdsl.cli.values import read_value
from maskdsl.diagnostics import AttnError, Diagnostic, nearest_name
from maskdsl.errors import command as errors
from maskdsl.ir.inputs import batch_entries
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.printer import print_expression
from maskdsl.synthetic import synthetic_inputs

SYNTHETIC_SEED = 0


@dataclass(frozen=True)
class Request:
    """A pattern and the values of its parameters."""

    pattern: Pattern
    values: Mapping[str, object]

    def bind(self, heads: int, order: str | None = None) -> Mask:
        """`order` is the text behind the word `order`; `by` may be left out. None: as the pattern says."""
        if order is not None and order != "declared" and not re.search(r"\bby\b", order):
            order = f"by {order}"
        return Mask(self.pattern, bind(self.pattern.program, self.pattern.name, self.values, heads, order))


def read_request(file: str, words: Sequence[str]) -> Request:
    """The file's pattern that the first word without `=` names, or its only one; the others are `name=value`."""
    module = load(file)
    names = [word for word in words if "=" not in word]
    pattern = module[names[0]] if names else only_pattern(module, file)
    if len(names) > 1:
        nearest = nearest_name(names[1], pattern.parameters)
        raise AttnError(errors.StrayWord(pattern=pattern.name, word=names[1], nearest=nearest))
    return Request(pattern, read_values([word for word in words if "=" in word]))


def only_pattern(module: Module, file: str) -> Pattern:
    """The pattern that the file itself declares, or the only one of the files that it uses."""
    own = [name for name in module if module[name].declaration.span.source is module.program.root.span.source]
    names = own or list(module)
    if not names:
        raise AttnError(errors.NoPattern(file=file))
    if len(names) > 1:
        raise AttnError(errors.SeveralPatterns(file=file, known=", ".join(f"`{name}`" for name in names)))
    return module[names[0]]


def read_values(words: Sequence[str]) -> dict[str, object]:
    """Of words `name=value`."""
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


def read_arrays(texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of options `--input name=file.npy`."""
    arrays: dict[str, NDArray[Any]] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise AttnError(errors.NotAnInput(text=text))
        try:
            loaded = np.load(Path(file), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = (
                error.strerror if isinstance(error, OSError) else None
            ) or "it is no array as numpy.save writes it"
            raise AttnError(errors.UnreadableInput(name=name, file=file, reason=reason)) from None
        if not isinstance(loaded, np.ndarray):
            raise AttnError(errors.UnreadableInput(name=name, file=file, reason="it holds several arrays"))
        arrays[name] = loaded
    return arrays


@dataclass(frozen=True, eq=False)
class Inputs:
    """Arrays for a mask, and the names of those that nobody gave."""

    arrays: Mapping[str, NDArray[Any]]
    made: tuple[str, ...]


def complete(mask: MaskIR, given: Mapping[str, NDArray[Any]], needed: frozenset[str], batch: int = 1) -> Inputs:
    """What is given, and plausible values for what is needed besides."""
    for declared in mask.inputs:
        if declared.name in given:
            batch = batch_entries(declared, given[declared.name]) or batch
    made = {
        name: values
        for name, values in synthetic_inputs(mask, SYNTHETIC_SEED, batch).items()
        if name in needed and name not in given
    }
    return Inputs({**given, **made}, tuple(made))


def read_block(text: str) -> tuple[int, int]:
    """`128` or `128x64`: queries and keys of a tile."""
    match = re.fullmatch(r"([1-9]\d{0,8})(?:x([1-9]\d{0,8}))?", text)
    if match is None:
        raise AttnError(errors.NotABlock(text=text))
    return int(match[1]), int(match[2] or match[1])


def read_heads(heads: Sequence[int], count: int) -> list[int]:
    """The heads asked for; all of them if none is."""
    for head in heads:
        if not 0 <= head < count:
            raise AttnError(errors.UnknownHead(head=head, heads=count))
    return sorted(set(heads)) or list(range(count))


def choose(what: str, name: str, known: Sequence[str]) -> str:
    """The name, if it is one of those known."""
    if name not in known:
        listed = ", ".join(f"`{each}`" for each in known)
        raise AttnError(errors.UnknownChoice(what=what, name=name, known=listed, nearest=nearest_name(name, known)))
    return name


def order_text(mask: MaskIR) -> str:
    """The layout of a mask: `declared order`, or as the language writes it."""
    sides = [mask.queries] if mask.self_attention else [mask.queries, mask.keys]
    parts: dict[str, None] = {}
    for sequence in sides:
        for space, keys in zip(sequence.spaces, sequence.order, strict=False):
            if keys:
                by = f"by {', '.join(map(print_expression, keys))}"
                parts[by if len(sequence.spaces) == 1 else f"{space.name} {by}"] = None
    return f"order {'; '.join(parts)}" if parts else "declared order"
