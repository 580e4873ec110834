"""The results of `run` and `bench`: a table, and what it comes to."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import torch
from rich import box
from rich.table import Table

from maskdsl.api import Mask
from maskdsl.base.records import dataclass
from maskdsl.cli.consoles import output
from maskdsl.cli.request.masks import order_text
from maskdsl.cli.timing.bench_shape import BenchShape
from maskdsl.cli.timing.measurements import Timing
from maskdsl.view import units
from maskdsl.view.terminal.show import title

_AS_FAST = 1.02
"""The ratio of times up to which two are as fast as each other."""


@dataclass(frozen=True)
class TimingReport:
    mask: Mask
    shape: BenchShape
    timings: tuple[Timing, ...]
    chosen: str
    """The name of the backend that "auto" takes."""
    others: frozenset[str] = frozenset()
    """Names of what is not ours."""
    left_out: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def comparison(self) -> str:
        """How the backend that "auto" takes compares with the fastest of the others; empty if there is nothing."""
        times = {each.name: each.typical for each in self.timings}
        rivals = self.others & times.keys()
        if not rivals or self.chosen not in times:
            return ""
        ours, rival = times[self.chosen], min(rivals, key=times.__getitem__)
        named = f'`{self.chosen}`, which "auto" takes'
        if max(ours, times[rival]) <= _AS_FAST * min(ours, times[rival]):
            return f'fastest: {named}, and "{rival}" is as fast'
        if ours < times[rival]:
            return f'fastest: {named}; "{rival}" takes {units.times(times[rival] / ours)} as long'
        return f'fastest: "{rival}"; {named}, takes {units.times(ours / times[rival])} as long'

    def print(self, as_json: bool) -> None:
        """As a table, or as JSON."""
        if as_json:
            print(json.dumps(self.as_dict(), indent=2))
            return
        console = output()
        console.print(title(self.mask.ir))
        threads = f"{torch.get_num_threads()} threads"
        console.print(f"{order_text(self.mask.ir)}, {self.shape}, {threads}", style="dim", markup=False)
        console.print(self.table())
        if self.comparison:
            console.print(self.comparison, markup=False, soft_wrap=True)
        for line in self.advice:
            console.print(f"faster: {line}", markup=False, soft_wrap=True)
        for line in self.left_out:
            console.print(f"left out: {line}", style="dim", markup=False, soft_wrap=True)

    def table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for name in ("first call", "median", "calls", "memory", "tokens/s"):
            table.add_column(name, justify="right", no_wrap=True)
        for each, rate in zip(self.timings, self._rates(), strict=True):
            times = (units.duration(time) for time in (each.first, each.typical))
            memory = "" if each.memory is None else units.size(each.memory)
            table.add_row(each.name, *times, str(each.repeats), memory, units.about(rate))
        return table

    def as_dict(self) -> dict[str, object]:
        """Plain numbers, lists and dictionaries, for JSON."""
        mask = self.mask
        head = {"pattern": mask.name, "parameters": dict(mask.ir.parameters), "order": order_text(mask.ir)}
        measured = [
            asdict(each) | {"tokens_per_second": rate} for each, rate in zip(self.timings, self._rates(), strict=True)
        ]
        threads = {"threads": torch.get_num_threads()}
        said = {"auto": self.chosen, "comparison": self.comparison, "advice": [*self.advice]}
        return {**head, **asdict(self.shape), **threads, "seconds": measured, **said, "left_out": [*self.left_out]}

    def _rates(self) -> Sequence[float]:
        return [self.shape.batch * self.mask.query_length / each.typical for each in self.timings]
