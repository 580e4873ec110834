"""`view`: writes a pattern as a page, or serves the page while the pattern is edited."""

import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from maskdsl.api import Mask
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NotForStacks
from maskdsl.base.errors.commands.page import NoPort
from maskdsl.base.records import dataclass
from maskdsl.cli.commands.show_and_stats import layer_in_orders
from maskdsl.cli.consoles import note, output
from maskdsl.cli.request.masks import SYNTHETIC_SEED, Request, StackRequest, read_arrays, read_block
from maskdsl.cli.request.rank_options import RankOptions
from maskdsl.cli.request.routed_masks import Arrays, resolve_masks
from maskdsl.cli.request.shared_options import SharedOptions
from maskdsl.cli.waiting import working
from maskdsl.cli.written_files import writing
from maskdsl.distributed.shard_plan import RankPlan
from maskdsl.ir.facts.route_candidates import selects
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.view import units
from maskdsl.view.page.html import page_html
from maskdsl.view.page.page_data import Subject, page_data
from maskdsl.view.page.watch import HOST, Built, Watched, server
from maskdsl.view.rank_cells import RankColours
from maskdsl.view.terminal.stack_table import layers_text


@dataclass(frozen=True)
class PageRequest:
    """What the command line asks of a page."""

    options: SharedOptions
    blocks: Sequence[str] = ()
    """Tile sizes, as they were typed."""
    planned: RankOptions = RankOptions()

    def build(self) -> Built:
        """Builds the data of the page. Raises `AttnError` for errors in the files and in the options."""
        options = self.options
        chosen = options.chosen() if options.head else None
        subject = options.subject()
        if isinstance(subject, Request):
            name, program = subject.pattern.name, subject.pattern.program
            subjects = [self.pattern(subject)]
        else:
            name, program = subject.stack.name, subject.stack.program
            subjects = list(self.layers(subject))
        models = [page_data(replace(each, heads=chosen)) for each in subjects]
        sources = [file.span.source.name for file in program.files if file is not program.standard]
        arrays = [text.partition("=")[2] for text in options.given]
        tensors = [] if options.tensors is None else [options.tensors]
        return Built(name, models, tuple(map(Path, [*sources, *arrays, *tensors])))

    def pattern(self, request: Request) -> Subject:
        masks = self.options.masks(request)
        resolved = resolve_masks(masks, self.options.given, self.options.seed, self.options.tensors)
        notes = self.notes(masks[0].ir, resolved.masks[0].ir, bool(resolved.least))
        plans = self.planned.of_mask(resolved.masks[0], resolved.inputs)
        return self.subject(resolved.masks, resolved.inputs, notes, plans)

    def layers(self, request: StackRequest) -> Iterator[Subject]:
        """A subject for each different layer of a stack."""
        if self.options.tensors is not None:
            raise AttnError(NotForStacks(option="--tensors", name=request.stack.name))
        stack = request.bind(self.options.heads)
        resolved = self.options.resolve_stack(stack)
        plans = self.planned.of_stack(resolved)
        for number, inputs in enumerate(find_in_layers(resolved.stack, resolved.inputs)):
            masks = layer_in_orders(stack, number, self.options.orders, resolved)
            notes = self.notes(stack.different[number].ir, masks[0].ir, resolved.open)
            yield replace(self.subject(masks, inputs, notes, plans, number), layers=layers_text(stack.ir, number))

    def subject(
        self, masks: Sequence[Mask], inputs: Arrays, notes: Iterable[str], plans: Sequence[RankPlan], layer: int = 0
    ) -> Subject:
        """The subject of a pattern; `layer` is which of the layers of the plans it is."""
        return Subject(
            masks[0].pattern.program,
            tuple(mask.ir for mask in masks),
            inputs,
            tuple(map(read_block, self.blocks)),
            notes=tuple(notes),
            fixed=bool(self.options.orders),
            colours=tuple(RankColours.of(each, layer, masks[0].ir, inputs) for each in plans),
        )

    def notes(self, mask: MaskIR, shown: MaskIR, candidates: bool) -> Iterator[str]:
        """Notes that tell readers of the page where its values come from. `shown` is the mask on the page."""
        arrays, seed, tensors = read_arrays(self.options.given), self.options.seed, self.options.tensors
        if selects(mask) and candidates:
            yield "Routes select in the queries and keys of a call: these are all pairs that may be selected."
        elif selects(mask) and seed is not None and tensors is None and not {"q", "k"} & arrays.keys():
            yield f"Routes select here in random queries and keys (seed {seed})."
        needed = relation_inputs(shown, arrays) - arrays.keys()
        made = [each.name for each in shown.given if each.name in needed]
        if made and tensors is None:
            yield f"Values of {', '.join(made)} are made up (seed {SYNTHETIC_SEED}); --input gives real ones."


def view(wanted: PageRequest, out: str | None, opens: bool, watches: bool, port: int) -> None:
    """Writes the page, or serves it until Ctrl-C."""
    if watches:
        _watch(wanted, opens, port)
        return
    with working("finding tiles"):
        built = wanted.build()
    path = Path(out or f"{built.name}.html")
    page = page_html(built.models, built.name).encode()
    with writing(str(path)):
        path.write_bytes(page)
    output().print(f"wrote {path}, {units.size(len(page))}", markup=False, soft_wrap=True)
    if opens:
        _open_page(path.resolve().as_uri())


def _open_page(address: str) -> None:
    if not webbrowser.open(address):
        note(f"no browser could be started; open {address}")


def _watch(wanted: PageRequest, opens: bool, port: int) -> None:
    watched = Watched(wanted.build, [Path(wanted.options.file)], wanted.options.file)
    error = watched.state()["error"]
    try:
        serving = server(watched, port)
    except (OSError, OverflowError) as problem:
        raise AttnError(NoPort(port=port, reason=getattr(problem, "strerror", None) or str(problem))) from None
    address = f"http://{HOST}:{serving.server_address[1]}/"
    if error is not None:
        output().print(error, markup=False, soft_wrap=True)
    output().print(f"{address} follows {wanted.options.file}; press Ctrl-C to end", markup=False, soft_wrap=True)
    if opens:
        _open_page(address)
    try:
        serving.serve_forever()
    except KeyboardInterrupt:
        output().print("\nended")
    finally:
        serving.server_close()
