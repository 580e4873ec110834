"""`view`: a pattern as a page, written to a file or served while the pattern is edited."""

import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskdsl.cli.consoles import output
from maskdsl.cli.files import write
from maskdsl.cli.looks import bound
from maskdsl.cli.request import SYNTHETIC_SEED, Request, read_arrays, read_block, read_heads, read_request
from maskdsl.cli.selection import look
from maskdsl.cli.waiting import working
from maskdsl.diagnostics import AttnError
from maskdsl.errors.page import NoPort
from maskdsl.ir.candidates import selects
from maskdsl.ir.inputs import relation_inputs
from maskdsl.ir.mask import MaskIR
from maskdsl.page.data import Subject, page_data
from maskdsl.page.html import page_html
from maskdsl.page.watch import HOST, Built, Watched, server
from maskdsl.view import units


@dataclass(frozen=True)
class Wanted:
    """What the words of the command line ask for."""

    file: str
    words: Sequence[str]
    heads: int
    head: Sequence[int] = ()
    orders: Sequence[str] = ()
    blocks: Sequence[str] = ()
    given: Sequence[str] = ()
    seed: int | None = None

    def build(self) -> Built:
        """Raises `AttnError` for everything that is wrong with the file or with what is asked of it."""
        request = read_request(self.file, self.words)
        masks = list(bound(request, self.heads, self.orders))
        looked = look(masks, self.given, self.seed)
        subject = Subject(
            request.pattern.declaration,
            tuple(mask.ir for mask in looked.masks),
            looked.inputs,
            tuple(map(read_block, self.blocks)),
            read_heads(self.head, self.heads) if self.head else None,
            tuple(notes(masks[0].ir, self.given, self.seed)),
            fixed=bool(self.orders),
        )
        return Built(page_data(subject), self.files(request))

    def files(self, request: Request) -> tuple[Path, ...]:
        program = request.pattern.program
        sources = [file.span.source.name for file in program.files if file is not program.standard]
        return tuple(map(Path, [*sources, *(text.partition("=")[2] for text in self.given)]))


def notes(mask: MaskIR, given: Sequence[str], seed: int | None) -> list[str]:
    """What readers of the page should know about where its values come from."""
    arrays = read_arrays(given)
    found: list[str] = []
    if selects(mask) and not {"q", "k"} <= arrays.keys():
        if seed is None:
            found.append("Routes select in the queries and keys of a call: these are all pairs that may be selected.")
        else:
            found.append(f"What routes select is found in random queries and keys (seed {seed}).")
    made = [each.name for each in mask.given if each.name in relation_inputs(mask, arrays) - arrays.keys()]
    if made:
        found.append(f"Values of {', '.join(made)} are made up (seed {SYNTHETIC_SEED}); --input gives real ones.")
    return found


def view(wanted: Wanted, out: str | None, opens: bool, watches: bool, port: int) -> None:
    """Writes the page, or serves it until it is interrupted."""
    if watches:
        watch(wanted, opens, port)
        return
    with working("finding tiles"):
        data = wanted.build().data
    path = Path(out or f"{data['name']}.html")
    page = page_html(data, data["name"])
    write(str(path), page)
    output().print(f"wrote {path}, {units.size(len(page.encode()))}", markup=False, soft_wrap=True)
    if opens:
        webbrowser.open(path.resolve().as_uri())


def watch(wanted: Wanted, opens: bool, port: int) -> None:
    watched = Watched(wanted.build, [Path(wanted.file)], wanted.file)
    error = watched.state()["error"]
    try:
        serving = server(watched, port)
    except (OSError, OverflowError) as problem:
        raise AttnError(NoPort(port=port, reason=getattr(problem, "strerror", None) or str(problem))) from None
    address = f"http://{HOST}:{serving.server_address[1]}/"
    if error is not None:
        output().print(error, markup=False, soft_wrap=True)
    output().print(f"{address} follows {wanted.file}; Ctrl-C ends", markup=False, soft_wrap=True)
    if opens:
        webbrowser.open(address)
    try:
        serving.serve_forever()
    except KeyboardInterrupt:
        output().print("\nended")
    finally:
        serving.server_close()
