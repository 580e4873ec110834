"""Files that use files: what is found, and everything that a wrong or hostile one can try."""

from pathlib import Path

import pytest

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.language.syntax import (
    DuplicateDeclaration,
    FileNotFound,
    FileTooLarge,
    FileUnreadable,
    NotAttnFile,
    NotUtf8,
    UnmatchedBracket,
    UseCycle,
    UseInText,
    UseLimit,
    UseOutside,
)
from maskdsl.syntax import tree
from maskdsl.syntax.program import DEEPEST_USE, LARGEST_TEXT, MOST_FILES, Program, load_program, program_from_text


def write(directory: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (directory / f"{name}.attn").write_text(text, encoding="utf-8")
    return directory


def fails(path: Path, allow: tuple[Path, ...] = ()) -> list[object]:
    with pytest.raises(AttnError) as caught:
        load_program(path, allow)
    assert str(caught.value)
    return list(caught.value.diagnostics)


def names(program: Program) -> list[str]:
    return [Path(file.span.source.name).name for file in program.files]


def test_a_diamond_is_read_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        root='use "left.attn" use "right.attn" pattern p() { attend a }',
        left='use "base.attn" def l() = 1',
        right='use "./base.attn" def r() = 2',
        base="def a() = 3",
    )
    program = load_program(tmp_path / "root.attn")
    assert names(program) == ["std.attn", "base.attn", "left.attn", "right.attn", "root.attn"]
    assert set(program.patterns) >= {"p"} and program.root is program.files[-1]
    assert {"a", "l", "r", "window"} <= set(program.macros(program.root.span.source))


def test_below_and_above_inside_the_root_directory(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path, root='use "deep/a.attn"', b="def b() = 1")
    write(tmp_path / "deep", a='use "../b.attn"')
    program = load_program(tmp_path / "root.attn")
    assert names(program) == ["std.attn", "b.attn", "a.attn", "root.attn"]
    assert program.files[1].span.source.name == str(tmp_path / "deep/../b.attn")


def test_shadowing_the_standard_library_leaves_it_alone() -> None:
    program = program_from_text("def window(a) = a pattern window() { attend window(1) } stack tall() = window()")
    assert isinstance(program.patterns["window"], tree.PatternDeclaration)
    assert isinstance(program.stacks["tall"], tree.StackDeclaration)
    own = program.macros(program.root.span.source)["window"]
    assert own.parameters[0].name.id == "a"
    assert program.macros(program.standard.span.source)["window"] is not own


def test_cycle(tmp_path: Path) -> None:
    write(tmp_path, a='use "b.attn"', b='use "c.attn"', c='use "b.attn"')
    (error,) = fails(tmp_path / "a.attn")
    assert isinstance(error, UseCycle)
    assert error.chain == "`b.attn` -> `c.attn` -> `b.attn`"
    write(tmp_path, own='use "own.attn"')
    assert isinstance(fails(tmp_path / "own.attn")[0], UseCycle)


@pytest.mark.parametrize("path", ["../secret.attn", "/etc/secret.attn", "../inner/../secret.attn", "link.attn"])
def test_outside(tmp_path: Path, path: str) -> None:
    root = tmp_path / "inner"
    root.mkdir()
    write(tmp_path, secret="def s() = 1")
    (root / "link.attn").symlink_to(tmp_path / "secret.attn")
    write(root, main=f'use "{path}"')
    (error,) = fails(root / "main.attn")
    assert isinstance(error, UseOutside)
    if not path.startswith("/"):
        assert len(load_program(root / "main.attn", allow=[tmp_path]).files) == 3


def test_not_found_says_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, main='use "shraed.attn" use "folder/none.attn" use "zero\\\\0.attn" use "b.attn"', shared="")
    errors = fails(tmp_path / "main.attn")
    assert [type(error) for error in errors] == [FileNotFound] * 4
    assert isinstance(errors[0], FileNotFound) and errors[0].nearest == str(tmp_path / "shared.attn")
    missing = fails(tmp_path / "mian.attn")[0]
    assert isinstance(missing, FileNotFound) and missing.nearest == str(tmp_path / "main.attn")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.attn").mkdir()
    (tmp_path / "latin.attn").write_bytes(b"# caf\xe9")
    (tmp_path / "large.attn").write_bytes(b" " * (LARGEST_TEXT + 1))
    (tmp_path / "plain.txt").write_text("")
    (tmp_path / "circle.attn").symlink_to(tmp_path / "circle.attn")
    write(tmp_path, bad="def )")
    uses = ["folder.attn", "latin.attn", "large.attn", "plain.txt", "", "bad.attn", "bad.attn"]
    write(tmp_path, main=" ".join(f'use "{name}"' for name in uses))
    kinds = [type(error) for error in fails(tmp_path / "main.attn")]
    assert kinds == [FileUnreadable, NotUtf8, FileTooLarge, NotAttnFile, NotAttnFile, UnmatchedBracket]
    write(tmp_path, links='use "circle.attn"')
    assert isinstance(fails(tmp_path / "links.attn")[0], FileNotFound | FileUnreadable)


def test_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mark.attn").write_bytes(b"\xef\xbb\xbfdef a() = 1")
    assert load_program(tmp_path / "mark.attn").root.span.start == 0


def test_limits(tmp_path: Path) -> None:
    for link in range(DEEPEST_USE + 5):
        write(tmp_path, **{f"chain{link}": f'use "chain{link + 1}.attn"'})
    (error,) = fails(tmp_path / "chain0.attn")
    assert isinstance(error, UseLimit) and error.limit == DEEPEST_USE
    for number in range(MOST_FILES + 2):
        write(tmp_path, **{f"many{number}": ""})
    write(tmp_path, main="\n".join(f'use "many{number}.attn"' for number in range(MOST_FILES + 2)))
    errors = fails(tmp_path / "main.attn")
    assert [type(error) for error in errors] == [UseLimit, UseLimit]


def test_duplicates(tmp_path: Path) -> None:
    write(tmp_path, main='use "other.attn" def a() = 1 pattern b() { attend q } stack b() = c()', other="def a() = 2")
    errors = fails(tmp_path / "main.attn")
    assert [type(error) for error in errors] == [DuplicateDeclaration] * 2
    first = errors[0]
    assert isinstance(first, DuplicateDeclaration) and first.name == "a"
    assert first.notes[0].span is not None and first.notes[0].span.source.name.endswith("other.attn")


def test_text_uses_files_only_when_told_where(tmp_path: Path) -> None:
    write(tmp_path, other="def a() = 2")
    assert len(program_from_text('use "other.attn"', directory=tmp_path).files) == 3
    with pytest.raises(AttnError) as caught:
        program_from_text('use "other.attn"')
    assert isinstance(caught.value.diagnostics[0], UseInText)


def test_a_text_that_was_read_lately_has_its_tree(tmp_path: Path) -> None:
    """Also as a file, until it changes; not one that is large."""
    (tmp_path / "a.attn").write_text("pattern p() {}")
    first, again = (load_program(tmp_path / "a.attn").root for _ in range(2))
    assert again is first
    (tmp_path / "a.attn").write_text("pattern other() {}")
    assert load_program(tmp_path / "a.attn").root is not first
    large = "pattern p() {} " + 20_000 * " "
    assert program_from_text(large).root is not program_from_text(large).root
