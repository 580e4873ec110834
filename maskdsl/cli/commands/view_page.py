"""`view`: a pattern as a page, written to a file or served while the pattern is edited."""

import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maskdsl.api import Mask
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NotForStacks
from maskdsl.base.errors.commands.page import NoPort
from maskdsl.cli.commands.check_and_fmt import write
from maskdsl.cli.commands.show_and_stats import layer_in_orders
from maskdsl.cli.consoles import note, output
from maskdsl.cli.request.asked import Asked
from maskdsl.cli.request.masks import SYNTHETIC_SEED, Request, StackRequest, read_arrays, read_block
from maskdsl.cli.request.routed_masks import Arrays, look
from maskdsl.cli.waiting import working
from maskdsl.ir.facts.route_candidates import selects
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.view import units
from maskdsl.view.page.html import page_html
from maskdsl.view.page.page_data import Subject, page_data
from maskdsl.view.page.watch import HOST, Built, Watched, server
from maskdsl.view.terminal.stack_table import layers_text


@dataclass(frozen=True)
class PageRequest:
    """What the words of the command line ask for."""

    asked: Asked
    blocks: Sequence[str] = ()
    """Sizes of tiles."""

    def build(self) -> Built:
        """Raises `AttnError` for everything that is wrong with the file or with what is asked of it."""
        asked = self.asked
        chosen = asked.chosen() if asked.head else None
        subject = asked.subject()
        if isinstance(subject, Request):
            name, program = subject.pattern.name, subject.pattern.program
            subjects = [self.pattern(subject)]
        else:
            name, program = subject.stack.name, subject.stack.program
            subjects = list(self.layers(subject))
        models = [page_data(replace(each, heads=chosen)) for each in subjects]
        sources = [file.span.source.name for file in program.files if file is not program.standard]
        arrays = [text.partition("=")[2] for text in asked.given]
        tensors = [] if asked.tensors is None else [asked.tensors]
        return Built(name, models, tuple(map(Path, [*sources, *arrays, *tensors])))

    def pattern(self, request: Request) -> Subject:
        masks = self.asked.masks(request)
        looked = look(masks, self.asked.given, self.asked.seed, self.asked.tensors)
        notes = self.notes(masks[0].ir, looked.masks[0].ir, bool(looked.least))
        return self.subject(looked.masks, looked.inputs, notes)

    def layers(self, request: StackRequest) -> Iterator[Subject]:
        """The different layers of a stack."""
        if self.asked.tensors is not None:
            raise AttnError(NotForStacks(option="--tensors", name=request.stack.name))
        stack = request.bind(self.asked.heads)
        looked = self.asked.look_at_layers(stack)
        for number, inputs in enumerate(find_in_layers(looked.stack, looked.inputs)):
            masks = layer_in_orders(stack, number, self.asked.orders, looked)
            notes = self.notes(stack.different[number].ir, masks[0].ir, looked.open)
            yield replace(self.subject(masks, inputs, notes), layers=layers_text(stack.ir, number))

    def subject(self, masks: Sequence[Mask], inputs: Arrays, notes: Iterable[str]) -> Subject:
        return Subject(
            masks[0].pattern.declaration,
            tuple(mask.ir for mask in masks),
            inputs,
            tuple(map(read_block, self.blocks)),
            notes=tuple(notes),
            fixed=bool(self.asked.orders),
        )

    def notes(self, mask: MaskIR, shown: MaskIR, candidates: bool) -> Iterator[str]:
        """What readers of the page should know about where its values come from: of a mask as `shown`."""
        arrays, seed, tensors = read_arrays(self.asked.given), self.asked.seed, self.asked.tensors
        if selects(mask) and candidates:
            yield "Routes select in the queries and keys of a call: these are all pairs that may be selected."
        elif selects(mask) and seed is not None and tensors is None and not {"q", "k"} & arrays.keys():
            yield f"What routes select is found in random queries and keys (seed {seed})."
        needed = relation_inputs(shown, arrays) - arrays.keys()
        made = [each.name for each in shown.given if each.name in needed]
        if made and tensors is None:
            yield f"Values of {', '.join(made)} are made up (seed {SYNTHETIC_SEED}); --input gives real ones."


def view(wanted: PageRequest, out: str | None, opens: bool, watches: bool, port: int) -> None:
    """Writes the page, or serves it until it is interrupted."""
    if watches:
        _watch(wanted, opens, port)
        return
    with working("finding tiles"):
        built = wanted.build()
    path = Path(out or f"{built.name}.html")
    page = page_html(built.models, built.name)
    write(str(path), page)
    output().print(f"wrote {path}, {units.size(len(page.encode()))}", markup=False, soft_wrap=True)
    if opens:
        _open_page(path.resolve().as_uri())


def _open_page(address: str) -> None:
    if not webbrowser.open(address):
        note(f"no browser could be started; {address} is the page")


def _watch(wanted: PageRequest, opens: bool, port: int) -> None:
    watched = Watched(wanted.build, [Path(wanted.asked.file)], wanted.asked.file)
    error = watched.state()["error"]
    try:
        serving = server(watched, port)
    except (OSError, OverflowError) as problem:
        raise AttnError(NoPort(port=port, reason=getattr(problem, "strerror", None) or str(problem))) from None
    address = f"http://{HOST}:{serving.server_address[1]}/"
    if error is not None:
        output().print(error, markup=False, soft_wrap=True)
    output().print(f"{address} follows {wanted.asked.file}; Ctrl-C ends", markup=False, soft_wrap=True)
    if opens:
        _open_page(address)
    try:
        serving.serve_forever()
    except KeyboardInterrupt:
        output().print("\nended")
    finally:
        serving.server_close()
