"""A program: a file, everything it uses, and the standard library. It is the input of `bind`.

Paths of used files are relative to the file that uses them. With symbolic links followed, they must be inside the
directory of the first file or one that the caller allows. A file used twice is read once. Macros are one namespace,
patterns and stacks another; a file may declare a name of the standard library again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

from maskdsl.base.attn_paths import SUFFIX, nearest_file
from maskdsl.base.diagnostics import AttnError, Caution, Diagnostic, Note
from maskdsl.base.errors.language.syntax import (
    DuplicateDeclaration,
    FileNotFound,
    FileTooLarge,
    FileUnreadable,
    NotAttnFile,
    NotUtf8,
    UseCycle,
    UseInText,
    UseLimit,
    UseOutside,
)
from maskdsl.base.records import dataclass
from maskdsl.base.source import Source, Span
from maskdsl.syntax import tree
from maskdsl.syntax.allowances import Allowance, Allowed, allowances, unknown_allowances
from maskdsl.syntax.parse import LARGEST_TEXT, MOST_ERRORS, parse
from maskdsl.syntax.standard_library import standard_library

MOST_FILES = 100
DEEPEST_USE = 20
_LARGEST_PROGRAM = 4 * LARGEST_TEXT
_LARGEST_KEPT = 20_000
"""The characters of a text whose tree is kept; larger ones are rare, and their trees take tens of megabytes."""


@dataclass(frozen=True)
class Program:
    """All files that one file needs: the standard library, used files before those that use them, the root."""

    root: tree.File
    files: tuple[tree.File, ...]

    @property
    def standard(self) -> tree.File:
        return self.files[0]

    @cached_property
    def patterns(self) -> Mapping[str, tree.PatternDeclaration]:
        return {
            declaration.name.id: declaration
            for declaration in _declarations(self.files)
            if isinstance(declaration, tree.PatternDeclaration)
        }

    @cached_property
    def stacks(self) -> Mapping[str, tree.StackDeclaration]:
        return {
            declaration.name.id: declaration
            for declaration in _declarations(self.files)
            if isinstance(declaration, tree.StackDeclaration)
        }

    @cached_property
    def allowances(self) -> list[Allowance]:
        return [each for file in self.files for each in allowances(file)]

    @cached_property
    def allowed(self) -> Allowed:
        """The warnings that the comments of all files silence."""
        return Allowed(self.allowances)

    @cached_property
    def cautions(self) -> tuple[Caution, ...]:
        """Warnings about the texts themselves, whatever their patterns mean."""
        return tuple(unknown_allowances(self.allowances))

    @cached_property
    def kept(self) -> dict[object, Any]:
        """Results of later stages that hold for all files, by the function that computes them."""
        return {}

    def macros(self, source: Source) -> Mapping[str, tree.MacroDeclaration]:
        """The macros that a text may call. The standard library sees its own macros only."""
        return self._standard_macros if source is self.standard.span.source else self._macros

    @cached_property
    def _macros(self) -> dict[str, tree.MacroDeclaration]:
        return _macros(self.files)

    @cached_property
    def _standard_macros(self) -> dict[str, tree.MacroDeclaration]:
        return _macros([self.standard])


def load_program(path: str | PathLike[str], allow: Iterable[str | PathLike[str]] = ()) -> Program:
    """Loads the program of a file. `allow` names more directories from which files may be used. Raises `AttnError`."""
    source = read_source(Path(path), str(path))
    return _program(source, Path(path).resolve(), allow)


def program_from_text(
    text: str,
    name: str = "<text>",
    directory: str | PathLike[str] | None = None,
    allow: Iterable[str | PathLike[str]] = (),
) -> Program:
    """Loads the program of a text. It may use files if `directory` says where their paths start. Raises `AttnError`."""
    return _program(Source(name, text), None if directory is None else Path(directory).resolve() / name, allow)


def program_of_files(sources: Sequence[Source]) -> Program:
    """The program of all its files but the standard library, in the order of `Program.files`. Raises `AttnError`."""
    if len(sources) > MOST_FILES or sum(len(each.text) for each in sources) > _LARGEST_PROGRAM:
        raise AttnError(UseLimit(span=None, what="the files used are too large", limit=_LARGEST_PROGRAM))
    files = tuple(map(_tree, sources))
    if mistakes := [*_duplicates(files)]:
        raise AttnError(*mistakes)
    return Program(files[-1], (standard_library(), *files))


def _program(source: Source, path: Path | None, allow: Iterable[str | PathLike[str]]) -> Program:
    root = _tree(source)
    roots = [] if path is None else [path.parent, *(Path(directory).resolve() for directory in allow)]
    loader = _Loader(roots)
    loader.load_used(root, [] if path is None else [path])
    used = tuple(loader.files.values())
    mistakes = [*loader.mistakes, *_duplicates([*used, root])]
    if mistakes:
        raise AttnError(*mistakes)
    return Program(root, (standard_library(), *used, root))


def _tree(source: Source) -> tree.File:
    """The tree of a text. A text that was read lately, as in a loop or a notebook, has its tree."""
    return _kept_tree(source.name, source.text) if len(source.text) <= _LARGEST_KEPT else parse(source)


@lru_cache(128)
def _kept_tree(name: str, text: str) -> tree.File:
    return parse(Source(name, text))


class _Loader:
    """Reads used files, depth first, and collects their trees and mistakes."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = roots
        self.files: dict[Path, tree.File] = {}
        self.tried: set[Path] = set()  # files with mistakes, and files being read
        self.mistakes: list[Diagnostic] = []
        self.size = 0

    def load_used(self, file: tree.File, chain: list[Path]) -> None:
        """Loads everything that `file` uses. It is the last of the `chain` of files that use each other."""
        for declaration in file.declarations:
            if len(self.mistakes) >= MOST_ERRORS:
                return
            if isinstance(declaration, tree.UseDeclaration):
                try:
                    self._load(declaration.path, chain)
                except AttnError as error:
                    self.mistakes += error.diagnostics

    def _load(self, name: tree.String, chain: list[Path]) -> None:
        path = self._resolve(name, chain)
        if path in chain:
            circle = [*chain[chain.index(path) :], path]
            shown = " -> ".join(f"`{link.name}`" for link in circle)
            raise AttnError(UseCycle(span=name.span, chain=shown))
        if path in self.files or path in self.tried:
            return
        if len(chain) > DEEPEST_USE:
            raise AttnError(UseLimit(span=name.span, what="files use each other too deeply", limit=DEEPEST_USE))
        if len(self.files) + len(self.tried) >= MOST_FILES:
            raise AttnError(UseLimit(span=name.span, what="too many files are used", limit=MOST_FILES))
        self.tried.add(path)
        source = read_source(path, str(Path(name.span.source.name).parent / name.value), name.span)
        self.size += len(source.text)
        if self.size > _LARGEST_PROGRAM:
            raise AttnError(UseLimit(span=name.span, what="the files used are too large", limit=_LARGEST_PROGRAM))
        file = _tree(source)
        self.load_used(file, [*chain, path])
        self.tried.remove(path)
        self.files[path] = file

    def _resolve(self, name: tree.String, chain: list[Path]) -> Path:
        if not chain:
            raise AttnError(UseInText(span=name.span))
        try:
            path = (chain[-1].parent / name.value).resolve()
        except (OSError, ValueError, RuntimeError):  # a path too long, with a zero byte, or of links in a circle
            raise AttnError(FileNotFound(span=name.span, name=name.value)) from None
        if not any(path.is_relative_to(root) for root in self.roots):
            raise AttnError(UseOutside(span=name.span, name=name.value, root=str(self.roots[0])))
        return path


def read_source(path: Path, name: str, span: Span | None = None) -> Source:
    """Reads a file, called `name` in errors; `span` is the `use` that names it. Raises `AttnError`."""
    if path.suffix != SUFFIX:
        raise AttnError(NotAttnFile(span=span, name=name, nearest=nearest_file(path, name)))
    try:
        if path.exists() and not path.is_file():
            raise AttnError(FileUnreadable(span=span, name=name, reason="it is not a plain file"))
        with path.open("rb") as file:
            content = file.read(LARGEST_TEXT + 1)
    except FileNotFoundError:
        raise AttnError(FileNotFound(span=span, name=name, nearest=nearest_file(path, name))) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise AttnError(FileUnreadable(span=span, name=name, reason=reason)) from None
    return source_of(name, content, span)


def source_of(name: str, content: bytes, span: Span | None = None) -> Source:
    """Decodes the bytes of a file; the first `LARGEST_TEXT + 1` are enough. Raises `AttnError`."""
    if len(content) > LARGEST_TEXT:
        raise AttnError(FileTooLarge(span=span, name=name, limit=LARGEST_TEXT))
    try:
        return Source(name, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        offset = error.start
        raise AttnError(NotUtf8(span=span, name=name, byte=error.object[offset], offset=offset)) from None


def _declarations(some: Iterable[tree.File]) -> Iterator[tree.Declaration]:
    for file in some:
        yield from file.declarations


def _macros(some: Iterable[tree.File]) -> dict[str, tree.MacroDeclaration]:
    return {
        declaration.name.id: declaration
        for declaration in _declarations(some)
        if isinstance(declaration, tree.MacroDeclaration)
    }


def _duplicates(some: Iterable[tree.File]) -> Iterator[Diagnostic]:
    """Errors for names declared again outside the standard library."""
    first: dict[tuple[bool, str], tree.Name] = {}
    for declaration in _declarations(some):
        if isinstance(declaration, tree.UseDeclaration):
            continue
        name = declaration.name
        known = first.setdefault((isinstance(declaration, tree.MacroDeclaration), name.id), name)
        if known is not name:
            note = Note("declared first here", known.span)
            yield DuplicateDeclaration(span=name.span, name=name.id, notes=(note,))
