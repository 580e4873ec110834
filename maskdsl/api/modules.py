"""`.attn` files and texts to modules, which hold patterns and stacks by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from maskdsl.api.patterns import Pattern
from maskdsl.api.stacks import Stack
from maskdsl.base.arguments import HEADS, PATH, PATHS, TENSORS, TEXT, BackendName, TensorLayout, optional, takes
from maskdsl.base.attn_paths import SUFFIX
from maskdsl.base.diagnostics import AttnError, nearest_name, shown, warn
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls.arguments import PatternAsAttribute
from maskdsl.base.errors.language.stacks import UnknownStack
from maskdsl.base.errors.language.syntax import PathAsText
from maskdsl.base.records import dataclass
from maskdsl.bind import find_pattern
from maskdsl.syntax.program import Program, load_program, program_from_text

if TYPE_CHECKING:
    from maskdsl.runtime.attention import Attention


@takes(path=PATH, allow=PATHS)
def load(path: str | PathLike[str], *, allow: Sequence[str | PathLike[str]] = ()) -> Module:
    """Reads an `.attn` file.

    `use` in it may name files in its own directory and in the directories of `allow`. Raises `AttnError` with every
    independent mistake in the files, and warns by `AttnWarning`.
    """
    return _module(load_program(path, allow=allow))


@takes(text=TEXT, name=TEXT)
def parse(text: str, name: str = "<text>") -> Module:
    """Reads the text of an `.attn` file. `name` stands for the file in errors. Raises `AttnError`."""
    if text.endswith(SUFFIX) and not any(map(str.isspace, text)):
        raise AttnError(PathAsText(text=text))
    return _module(program_from_text(text, name=name))


def _module(program: Program) -> Module:
    warn(program.cautions)
    return Module(program)


@takes(path=PATH, pattern=TEXT, backend=TEXT, order=optional(TEXT), layout=TENSORS, **HEADS)
def compile(
    path: str | PathLike[str],
    pattern: str,
    /,
    *,
    heads: int = 1,
    key_heads: int | None = None,
    first_head: int = 0,
    local_heads: int | None = None,
    backend: BackendName = "auto",
    order: str | None = None,
    layout: TensorLayout = "bhnd",
    **parameters: object,
) -> Attention:
    """Loads a file, binds one of its patterns and compiles it: see `load`, `Pattern.bind` and `Mask.compile`."""
    bound = load(path)[pattern].bind(
        heads=heads, key_heads=key_heads, first_head=first_head, local_heads=local_heads, order=order, **parameters
    )
    return bound.compile(backend, layout=layout)


_MOST_NAMES = 8
"""Patterns and stacks that an error lists."""


class _UnknownAttribute(AttnError, AttributeError):
    """Raised for `module.name`, where `module["name"]` is meant."""


class UnknownPattern(AttnError, KeyError):
    """Raised by `module[name]` if there is no pattern of this name."""


@dataclass(frozen=True)
class Module(Mapping[str, Pattern], Displayed):
    """A mapping from names to the patterns of a file, of the files that it uses, and of the standard library.

    Iteration and length leave out the standard library, and follow the order of the text. `stack` looks up stacks.
    """

    program: Program
    """The parsed files, as the compiler represents them. It may change in the next version."""

    def __getitem__(self, name: str) -> Pattern:
        """The pattern of this name. Raises `UnknownPattern`, which is an `AttnError` and a `KeyError`."""
        if not isinstance(name, str):
            name = shown(name)
        try:
            return Pattern(self.program, find_pattern(self.program, name))
        except AttnError as error:
            raise UnknownPattern(*error.diagnostics) from None

    @takes(name=TEXT)
    def stack(self, name: str) -> Stack:
        """The stack of this name. Raises `AttnError` if there is none."""
        if name not in self.stacks:
            names = ", ".join(f"`{each}`" for each in self.stacks)
            known = f"the stacks are {names}" if names else "the file declares none"
            raise AttnError(UnknownStack(name=name, known=known, nearest=nearest_name(name, self.stacks)))
        return self.stacks[name]

    def __getattr__(self, name: str) -> Any:
        """Raises an `AttributeError`, which is also an `AttnError` that lists the patterns and stacks."""
        program = self.__dict__.get("program")
        if program is None or name.startswith("_"):
            raise AttributeError(f"a module has no attribute {name!r}")
        listed = [*self, *program.stacks]
        known = [*program.patterns, *program.stacks]
        meant = name if name in known else nearest_name(name, known) or next(iter(listed), "...")
        replacement = f'module.stack("{meant}")' if meant in program.stacks else f'module["{meant}"]'
        names = ", ".join(f"`{each}`" for each in listed[:_MOST_NAMES]) or "those of the standard library"
        raise _UnknownAttribute(PatternAsAttribute(name=name, found=replacement, names=names))

    def __iter__(self) -> Iterator[str]:
        standard = self.program.standard.span.source
        return (name for name, declaration in self.program.patterns.items() if declaration.span.source is not standard)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def stacks(self) -> dict[str, Stack]:
        """The stacks by name, in the order of the text."""
        return {name: Stack(self.program, declaration) for name, declaration in self.program.stacks.items()}

    @property
    def everything(self) -> dict[str, Pattern | Stack]:
        """All patterns, then all stacks, by name; without the standard library."""
        return {**self, **self.stacks}

    def _shown_(self) -> tuple[object, ...]:
        return (self.program,)

    def __repr__(self) -> str:
        return f"Module({', '.join(self.everything)})"
