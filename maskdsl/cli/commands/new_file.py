"""`new`: writes a file to begin with, from an example or with one pattern and what its lines mean."""

import re
import shlex
from pathlib import Path

from rich.table import Table

from maskdsl.api import load, parse
from maskdsl.api.examples import examples
from maskdsl.base.attn_paths import SUFFIX
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NotWritten
from maskdsl.base.errors.commands.examples import FileExists
from maskdsl.cli.consoles import output
from maskdsl.cli.request.named_files import example, named_file
from maskdsl.cli.written_files import writing
from maskdsl.syntax.program import read_source

_PATTERN = """\
## What this pattern is for.
pattern NAME(n = 1024, size = 128) {
    # The tokens. `n` is a parameter: `maskdsl show FILE n=4096` gives it another value.
    space tokens[n]
    # Which keys `k` a query `q` attends: its own position and those before it, `size` keys at most.
    attend causal and backward(size)
}
"""


def new(name: str, source: str | None) -> None:
    """Writes `name`, with the ending .attn if it has none. Raises `AttnError` if it exists (E544)."""
    bare = Path(name).name.removesuffix(SUFFIX)
    if not re.search(r"\w", bare) or bare.startswith("-") or not name.isprintable():
        raise AttnError(NotWritten(file=name, reason="its name needs a letter or a digit, and no dash in front"))
    path = Path(name if name.endswith(SUFFIX) else f"{name}{SUFFIX}")
    template = example(path.stem) if source is None else Path(named_file(source))
    text = _first_pattern(path) if template is None else read_source(template, str(template)).text
    with writing(str(path)):
        try:
            with path.open("xb") as file:
                file.write(text.encode())
        except FileExistsError:
            raise AttnError(FileExists(file=str(path))) from None
    shown = shlex.quote(str(path))
    output().print(f"wrote {path}; maskdsl show {shown} draws it", markup=False, soft_wrap=True)


def _first_pattern(path: Path) -> str:
    """A pattern named for the file, where a pattern may have this name."""
    text = _PATTERN.replace("FILE", path.name)
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    try:
        parse(text.replace("NAME", name))
    except AttnError:
        name = f"pattern_{name}"
    return text.replace("NAME", name)


def list_examples() -> None:
    """Prints the names of all examples, with what the first of their patterns is."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, path in examples().items():
        doc = next((each.doc for each in load(path).values() if each.doc), "")
        table.add_row(name, doc.partition(". ")[0].partition("\n")[0])
    output().print(table)
