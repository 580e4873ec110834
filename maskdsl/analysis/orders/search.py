"""The search for the best order, space by space: sampled tiles of every candidate, then more tiles of the best.

Times are predicted for the forward kernel and one batch entry, on a GPU kept busy by other entries.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from math import prod

from maskdsl.analysis.cost.devices import Device
from maskdsl.analysis.cost.model import predict
from maskdsl.analysis.orders.candidates import SIMPLE, candidates
from maskdsl.analysis.orders.head_orders import MOST_GROUPS, by_head, head_groups
from maskdsl.analysis.orders.layouts import Candidate, Keys, Layout, spaces_of, written_layout
from maskdsl.analysis.orders.order_hints import OrderHints, find_hints
from maskdsl.analysis.orders.order_trials import OrderTrial, OrderTrials
from maskdsl.analysis.tiles.block_map import Array, BlockMap
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Space
from maskdsl.ir.mask import MaskIR

_GLANCE = 12
"""Rows of tiles that are sampled at a first glance at a candidate."""
_NEAR = 1.5
"""Candidates that take longer than this factor times the best are dropped after the glance."""
ROWS = 64
"""Rows of tiles that are sampled for the other candidates."""
_HASTY = 1 << 15
"""In glances at longer sequences, tiles that intervals leave open count as partial."""
_LONG = 1 << 17
"""Glances at longer sequences use a box of `_BOX` tokens of each space."""
_BOX = 1 << 17
_JUDGED = 1 << 22
"""About the tokens of all candidates that are judged at full length."""
_EXACT = 1 << 16
"""Up to this many partial tiles, the best and the declared order are confirmed by their exact block maps."""
SAVING = 0.95
"""An order replaces a simpler one if its time is less than this fraction of the other's."""
_UNSURE = 0.9
"""The same for replacing the declared order, if tiles are not exact."""
_LEADERS = 3
"""The number of best orders that are tried again after groups and global tokens."""
_ROUNDS = 2
"""Rounds over all spaces, if there are several."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A layout with its tiles and predicted time."""

    layout: Layout
    kind: str
    trial: OrderTrial
    seconds: float


@dataclass(frozen=True, eq=False)
class OrderSearch:
    """The search for one tile size. It orders the spaces `free`; the others keep the layout `fixed`."""

    mask: MaskIR
    inputs: Mapping[str, Array]
    block: tuple[int, int]
    device: Device
    head_dim: int
    free: tuple[str, ...]
    fixed: Layout
    judged: dict[bytes, Outcome] = field(default_factory=dict)
    """All judged layouts by the digest of their order; of equal orders, the first and simplest."""
    glanced: dict[bytes, Outcome] = field(default_factory=dict)
    """The layouts of all glances at whole sequences, likewise."""

    def run(self) -> Outcome:
        """The best layout; all that were judged are in `judged`."""
        declared = best = self.judge(self.fixed, "declared")
        written = written_layout(self.mask)
        if any(written.get(name) for name in self.free):
            best = _simplest([declared, self.judge({**self.fixed, **written}, "written")])
        for _ in range(_ROUNDS if len(self.free) > 1 else 1):
            before = best
            for name in self.free:
                best = self.improved(spaces_of(self.mask)[name], best)
            if best is before:
                break
        return self.confirmed(declared, self.by_heads(best))

    def improved(self, space: Space, start: Outcome) -> Outcome:
        """The best layout that changes the order of one space of `start`."""
        hints = find_hints(self.mask, space)
        known = candidates(space, hints, written_layout(self.mask).get(space.name, ()), self.block)
        outcomes = self.tried(space, start, known)
        ranked = sorted(outcomes, key=lambda outcome: outcome.seconds)
        leaders = [Candidate(each.layout.get(space.name, ()), each.kind) for each in ranked[:_LEADERS]]
        outcomes += self.tried(space, start, _after_hints(known, leaders, hints))
        return _simplest([start, *outcomes])

    def by_heads(self, best: Outcome) -> Outcome:
        """The best layout, or a better one with different orders for heads of different relations."""
        if len(self.groups) == 1:
            return best
        judged = list(self.judged.values())
        layouts = [
            judged[_first_near([self.time(each.trial.tiles, group) for each in judged])].layout for group in self.groups
        ]
        return _simplest([best, self.judge(by_head(self.groups, layouts), "heads")])

    def tried(self, space: Space, start: Outcome, known: Sequence[Candidate]) -> list[Outcome]:
        """Judges the candidates that a glance finds near the best, for all heads or a group; all if tiles are few."""
        layouts = {each: {**start.layout, space.name: each.keys} for each in known}
        if self.longest <= _GLANCE * self.block[0] or not known:
            return [self.judge(layouts[each], each.kind) for each in known]
        glances = [self.outcome(self.glances, layout, each.kind) for each, layout in layouts.items()]
        if not self.glances.box:
            for glance in glances:
                self.glanced.setdefault(glance.trial.digest, glance)
        most = max(_LEADERS, _JUDGED // self.longest)
        near = self.near(known, glances, tuple(range(self.mask.heads)), most)
        near = near.union(*(self.near(known, glances, heads, _LEADERS) for heads in self.groups))
        return [self.judge(layouts[each], each.kind) for each in known if each in near]

    def near(
        self, known: Sequence[Candidate], glances: Sequence[Outcome], heads: Sequence[int], most: int
    ) -> set[Candidate]:
        """The candidates that are best for these heads, and those not much worse; at most `most`."""
        times = {each: self.time(glance.trial.tiles, heads) for each, glance in zip(known, glances, strict=True)}
        ranked = sorted(known, key=times.__getitem__)[:most]
        return {each for each in ranked if times[each] <= _NEAR * times[ranked[0]]}

    def judge(self, layout: Layout, kind: str) -> Outcome:
        """The outcome of a layout by a sample of rows; the first layout of the same order if there is one."""
        outcome = self.outcome(self.trials, layout, kind)
        return self.judged.setdefault(outcome.trial.digest, outcome)

    def outcome(self, trials: OrderTrials, layout: Layout, kind: str) -> Outcome:
        """The outcome of a layout by these trials."""
        trial = trials.of(layout)
        return Outcome(layout, kind, trial, self.time(trial.tiles))

    def time(self, tiles: BlockMap, heads: Sequence[int] | None = None) -> float:
        """The predicted time in seconds, of these heads or of all."""
        if heads is not None:
            tiles = replace(tiles, class_of_head=tiles.class_of_head[:, list(heads)])
        cost = predict(tiles, self.device, head_dim=self.head_dim)
        return max(cost.arithmetic_seconds, cost.memory_seconds)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Groups of heads that may have different orders. One group if there are too many relations, or if the mask has
        only later heads of an attention: the text of an order counts heads from the first."""
        groups = head_groups(self.mask)
        return groups if len(groups) <= MOST_GROUPS and not self.mask.here.start else (tuple(range(self.mask.heads)),)

    @property
    def longest(self) -> int:
        """The length of the longer side."""
        return max(self.mask.queries.length, self.mask.keys.length)

    @cached_property
    def glances(self) -> OrderTrials:
        """Trials for glances: few rows, and of long sequences a box of tokens."""
        box = _cropped(spaces_of(self.mask).values()) if self.longest > _LONG else {}
        return OrderTrials(
            self.mask, self.inputs, self.block, _GLANCE, box, self.longest > _HASTY, self.trials.coordinates
        )

    @cached_property
    def trials(self) -> OrderTrials:
        """Trials with a sample of rows."""
        return OrderTrials(self.mask, self.inputs, self.block, ROWS)

    @cached_property
    def whole(self) -> OrderTrials:
        """Trials with all rows."""
        return OrderTrials(self.mask, self.inputs, self.block, coordinates=self.trials.coordinates)

    def confirmed(self, declared: Outcome, best: Outcome) -> Outcome:
        """The best layout, unless the declared order is better by exact tiles, if these are few enough."""
        first = self.exact(declared)
        if best is declared:
            return first
        last = self.exact(best)
        if first.trial.exact and last.trial.exact:
            return _simplest([first, last])
        return last if last.seconds < _UNSURE * first.seconds else first

    def exact(self, outcome: Outcome) -> Outcome:
        """The outcome with exact tiles if they are few enough, else unchanged."""
        open_tiles = sum(head_class.partial.count for head_class in outcome.trial.tiles.head_classes)
        if outcome.trial.exact or open_tiles > _EXACT:
            return outcome
        whole = self.outcome(self.whole, outcome.layout, outcome.kind)
        self.judged[outcome.trial.digest] = whole
        return whole


def _simplest(outcomes: Sequence[Outcome]) -> Outcome:
    """The first outcome whose time is within `SAVING` of the least."""
    return outcomes[_first_near([outcome.seconds for outcome in outcomes])]


def _first_near(times: Sequence[float]) -> int:
    """The index of the first time within `SAVING` of the least."""
    limit = min(times) / SAVING
    return next(number for number, time in enumerate(times) if time <= limit)


def _after_hints(known: Sequence[Candidate], leaders: Sequence[Candidate], hints: OrderHints) -> tuple[Candidate, ...]:
    """Orders with global tokens first, which otherwise make many tiles partial; the leaders also within groups."""
    simple = [each for each in known if each.kind in SIMPLE]
    prefixes = [*((key,) for key in hints.firsts), hints.groups, (*hints.firsts, *hints.groups)]
    pairs = [(base, hints.firsts) for base in (*simple, *leaders)]
    pairs += [(base, prefix) for base in leaders for prefix in prefixes]
    return tuple(dict.fromkeys(_after(prefix, base) for base, prefix in pairs if prefix))


def _after(prefix: Keys, base: Candidate) -> Candidate:
    return Candidate((*prefix, *(key for key in base.keys if key not in prefix)), base.kind)


def _cropped(spaces: Iterable[Space]) -> dict[str, tuple[int, ...]]:
    """Boxes of at most `_BOX` tokens of each space, by halving the longest axis repeatedly."""
    boxes = {}
    for space in spaces:
        lengths = [axis.length for axis in space.axes]
        while prod(lengths) > _BOX:
            longest = lengths.index(max(lengths))
            lengths[longest] = -(-lengths[longest] // 2)
        boxes[space.name] = tuple(lengths)
    return boxes
