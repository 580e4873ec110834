"""`view`: a pattern as a page, written to a file or served while the pattern is edited."""

import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maskdsl.api import Mask
from maskdsl.cli.consoles import output
from maskdsl.cli.files import write
from maskdsl.cli.looks import bound, stack_inputs
from maskdsl.cli.request import (
    SYNTHETIC_SEED,
    Request,
    StackRequest,
    order_words,
    read_arrays,
    read_block,
    read_heads,
    read_subject,
)
from maskdsl.cli.selection import Arrays, Looked, look
from maskdsl.cli.waiting import working
from maskdsl.diagnostics import AttnError
from maskdsl.errors.command import NotForStacks
from maskdsl.errors.page import NoPort
from maskdsl.ir.inputs import layer_inputs, relation_inputs
from maskdsl.ir.mask import MaskIR
from maskdsl.page.data import Subject, page_data
from maskdsl.page.html import page_html
from maskdsl.page.watch import HOST, Built, Watched, server
from maskdsl.view import units
from maskdsl.view.stacks import layers_text


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
    tensors: str | None = None

    def build(self) -> Built:
        """Raises `AttnError` for everything that is wrong with the file or with what is asked of it."""
        chosen = read_heads(self.head, self.heads) if self.head else None
        subject = read_subject(self.file, self.words)
        if isinstance(subject, Request):
            name, program = subject.pattern.name, subject.pattern.program
            subjects = [self.pattern(subject)]
        else:
            name, program = subject.stack.name, subject.stack.program
            subjects = list(self.layers(subject))
        models = [page_data(replace(each, heads=chosen)) for each in subjects]
        sources = [file.span.source.name for file in program.files if file is not program.standard]
        arrays = [text.partition("=")[2] for text in self.given]
        tensors = [] if self.tensors is None else [self.tensors]
        return Built(name, models, tuple(map(Path, [*sources, *arrays, *tensors])))

    def pattern(self, request: Request) -> Subject:
        masks = list(bound(request, self.heads, self.orders))
        looked = look(masks, self.given, self.seed, self.tensors)
        return self.subject(looked.masks, looked.inputs, self.notes(masks[0].ir, looked))

    def layers(self, request: StackRequest) -> Iterator[Subject]:
        """The different layers of a stack."""
        if self.seed is not None or self.tensors is not None:
            option = "--random" if self.tensors is None else "--tensors"
            raise AttnError(NotForStacks(option=option, name=request.stack.name))
        stack = request.bind(self.heads)
        inputs = layer_inputs(stack.ir, stack_inputs(stack, self.given))
        for number, (mask, own) in enumerate(zip(stack.different, inputs, strict=True)):
            masks = [mask.with_order(order_words(order)) for order in self.orders] or [mask]
            found = self.subject(masks, own, self.notes(mask.ir, None))
            yield replace(found, layers=layers_text(stack.ir, number))

    def subject(self, masks: Sequence[Mask], inputs: Arrays, notes: Iterable[str]) -> Subject:
        return Subject(
            masks[0].pattern.declaration,
            tuple(mask.ir for mask in masks),
            inputs,
            tuple(map(read_block, self.blocks)),
            notes=tuple(notes),
            fixed=bool(self.orders),
        )

    def notes(self, mask: MaskIR, looked: Looked | None) -> Iterator[str]:
        """What readers of the page should know about where its values come from."""
        arrays = read_arrays(self.given)
        if looked is not None and looked.least:
            yield "Routes select in the queries and keys of a call: these are all pairs that may be selected."
        elif looked is not None and looked.selections and self.seed is not None and not {"q", "k"} & arrays.keys():
            yield f"What routes select is found in random queries and keys (seed {self.seed})."
        needed = relation_inputs(mask, arrays) - arrays.keys()
        made = [each.name for each in mask.given if each.name in needed]
        if made and self.tensors is None:
            yield f"Values of {', '.join(made)} are made up (seed {SYNTHETIC_SEED}); --input gives real ones."


def view(wanted: Wanted, out: str | None, opens: bool, watches: bool, port: int) -> None:
    """Writes the page, or serves it until it is interrupted."""
    if watches:
        watch(wanted, opens, port)
        return
    with working("finding tiles"):
        built = wanted.build()
    path = Path(out or f"{built.name}.html")
    page = page_html(built.models, built.name)
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
