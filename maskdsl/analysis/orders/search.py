"""The search for the best order, space by space: a glance at every candidate, exact tiles of those that come near.

Time is that of the forward kernel for one batch entry, on a GPU kept busy by others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from maskdsl.analysis.cost.devices import Device
from maskdsl.analysis.cost.model import predict
from maskdsl.analysis.orders.candidates import SIMPLE, candidates
from maskdsl.analysis.orders.clues import Clues, find_clues
from maskdsl.analysis.orders.head_orders import MOST_GROUPS, by_head, head_groups
from maskdsl.analysis.orders.layouts import Candidate, Keys, Layout, own_layout, spaces_of
from maskdsl.analysis.orders.trials import OrderTrial, Trials
from maskdsl.analysis.tiles.block_map import Array, BlockMap
from maskdsl.ir.mask import MaskIR, Space

_GLANCE = 12
"""Rows of tiles that candidates are first judged by."""
_NEAR = 1.5
"""Those that take so many times the least time there are not looked at again."""
ROWS = 64
"""Rows of tiles that the others are judged by."""
_HASTY = 1 << 15
"""Glances at longer sequences take tiles for partial that are not seen at once to be empty or full."""
_LONG = 1 << 17
"""Glances at longer sequences are at a part of them, of `_BOX` tokens a space."""
_BOX = 1 << 17
_JUDGED = 1 << 22
"""Tokens of all candidates that are judged at full length, about."""
_EXACT = 1 << 16
"""A map of about so many partial tiles is found out completely, for the best order and the declared one."""
SAVING = 0.95
"""An order replaces a simpler one if it takes less than this part of its time."""
_UNSURE = 0.9
"""The same in place of the declared order where tiles are not exact."""
_LEADERS = 3
"""The best orders are tried again behind groups and first tokens."""
_ROUNDS = 2
"""Over the spaces, where there are several."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A layout that has been tried."""

    layout: Layout
    kind: str
    trial: OrderTrial
    seconds: float


@dataclass(frozen=True, eq=False)
class OrderSearch:
    """For one size of tiles. Orders of the spaces `free` are looked for; the others stay in `fixed`."""

    mask: MaskIR
    inputs: Mapping[str, Array]
    block: tuple[int, int]
    device: Device
    head_dim: int
    free: tuple[str, ...]
    fixed: Layout
    found: dict[bytes, Outcome] = field(default_factory=dict)
    """By the digest of the order: of equal ones the simplest, which comes first."""
    glanced: dict[bytes, Outcome] = field(default_factory=dict)
    """Those too that have only been glanced at."""

    def run(self) -> Outcome:
        """The best; everything that was tried is in `found`."""
        declared = best = self.judge(self.fixed, "declared")
        own = own_layout(self.mask)
        if any(own.get(name) for name in self.free):
            best = _simplest([declared, self.judge({**self.fixed, **own}, "written")])
        for _ in range(_ROUNDS if len(self.free) > 1 else 1):
            before = best
            for name in self.free:
                best = self.improved(spaces_of(self.mask)[name], best)
            if best is before:
                break
        return self.confirmed(declared, self.by_heads(best))

    def improved(self, space: Space, start: Outcome) -> Outcome:
        """The best with another order of one space."""
        clues = find_clues(self.mask, space)
        known = candidates(space, clues, own_layout(self.mask).get(space.name, ()), self.block)
        outcomes = self.tried(space, start, known)
        ranked = sorted(outcomes, key=lambda outcome: outcome.seconds)
        leaders = [Candidate(each.layout.get(space.name, ()), each.kind) for each in ranked[:_LEADERS]]
        outcomes += self.tried(space, start, _behind_clues(known, leaders, clues))
        return _simplest([start, *outcomes])

    def by_heads(self, best: Outcome) -> Outcome:
        """The best, or another one in which heads of different relations have orders of their own."""
        if len(self.groups) == 1:
            return best
        tried = list(self.found.values())
        layouts = [
            tried[_first_near([self.time(each.trial.tiles, group) for each in tried])].layout for group in self.groups
        ]
        return _simplest([best, self.judge(by_head(self.groups, layouts), "heads")])

    def tried(self, space: Space, start: Outcome, known: Sequence[Candidate]) -> list[Outcome]:
        """Those candidates that a glance finds near the best, for all heads or for some; all where tiles are few."""
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
        """The best for some heads, and those not much worse."""
        times = {each: self.time(glance.trial.tiles, heads) for each, glance in zip(known, glances, strict=True)}
        ranked = sorted(known, key=times.__getitem__)[:most]
        return {each for each in ranked if times[each] <= _NEAR * times[ranked[0]]}

    def judge(self, layout: Layout, kind: str) -> Outcome:
        outcome = self.outcome(self.trials, layout, kind)
        return self.found.setdefault(outcome.trial.digest, outcome)

    def outcome(self, trials: Trials, layout: Layout, kind: str) -> Outcome:
        trial = trials.of(layout)
        return Outcome(layout, kind, trial, self.time(trial.tiles))

    def time(self, tiles: BlockMap, heads: Sequence[int] | None = None) -> float:
        """Of some heads, or of all."""
        if heads is not None:
            tiles = replace(tiles, class_of_head=tiles.class_of_head[:, list(heads)])
        cost = predict(tiles, self.device, head_dim=self.head_dim)
        return max(cost.arithmetic_seconds, cost.memory_seconds)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Heads that may have an order of their own; all together where relations are many, or where the text of such
        an order would count heads of a whole attention from another one on."""
        groups = head_groups(self.mask)
        return groups if len(groups) <= MOST_GROUPS and not self.mask.here.start else (tuple(range(self.mask.heads)),)

    @property
    def longest(self) -> int:
        return max(self.mask.queries.length, self.mask.keys.length)

    @cached_property
    def glances(self) -> Trials:
        box = _cropped(spaces_of(self.mask).values()) if self.longest > _LONG else {}
        return Trials(self.mask, self.inputs, self.block, _GLANCE, box, self.longest > _HASTY, self.trials.coordinates)

    @cached_property
    def trials(self) -> Trials:
        return Trials(self.mask, self.inputs, self.block, ROWS)

    @cached_property
    def whole(self) -> Trials:
        return Trials(self.mask, self.inputs, self.block, coordinates=self.trials.coordinates)

    def confirmed(self, declared: Outcome, best: Outcome) -> Outcome:
        """The best, unless the declared order is better by exact tiles, where these can be found in time."""
        first = self.exact(declared)
        if best is declared:
            return first
        last = self.exact(best)
        if first.trial.exact and last.trial.exact:
            return _simplest([first, last])
        return last if last.seconds < _UNSURE * first.seconds else first

    def exact(self, outcome: Outcome) -> Outcome:
        """With exact tiles, where they are few enough to be found in time."""
        open_tiles = sum(head_class.partial.count for head_class in outcome.trial.tiles.head_classes)
        if outcome.trial.exact or open_tiles > _EXACT:
            return outcome
        whole = self.outcome(self.whole, outcome.layout, outcome.kind)
        self.found[outcome.trial.digest] = whole
        return whole


def _simplest(outcomes: Sequence[Outcome]) -> Outcome:
    """The first that takes hardly more than the least time."""
    return outcomes[_first_near([outcome.seconds for outcome in outcomes])]


def _first_near(times: Sequence[float]) -> int:
    """Which of them is the first that is hardly more than the least."""
    limit = min(times) / SAVING
    return next(number for number, time in enumerate(times) if time <= limit)


def _behind_clues(known: Sequence[Candidate], leaders: Sequence[Candidate], clues: Clues) -> tuple[Candidate, ...]:
    """Orders behind the tokens that all others share, which spoil them otherwise; the leading ones also in groups."""
    simple = [each for each in known if each.kind in SIMPLE]
    prefixes = [*((key,) for key in clues.firsts), clues.groups, (*clues.firsts, *clues.groups)]
    pairs = [(base, clues.firsts) for base in (*simple, *leaders)]
    pairs += [(base, prefix) for base in leaders for prefix in prefixes]
    return tuple(dict.fromkeys(_behind(prefix, base) for base, prefix in pairs if prefix))


def _behind(prefix: Keys, base: Candidate) -> Candidate:
    return Candidate((*prefix, *(key for key in base.keys if key not in prefix)), base.kind)


def _cropped(spaces: Iterable[Space]) -> dict[str, tuple[int, ...]]:
    """Boxes of at most `_BOX` tokens, their longest axes halved as often as it takes."""
    boxes = {}
    for space in spaces:
        lengths = [axis.length for axis in space.axes]
        while prod(lengths) > _BOX:
            longest = lengths.index(max(lengths))
            lengths[longest] = -(-lengths[longest] // 2)
        boxes[space.name] = tuple(lengths)
    return boxes
