"""The output of `maskdsl shard`: what each scheme costs for so many ranks, the cheapest first."""

from rich import box
from rich.table import Table
from rich.text import Text

from maskdsl.distributed.pricing import Cluster
from maskdsl.distributed.scheme_search import PricedScheme
from maskdsl.distributed.shard_plan import RankPlan
from maskdsl.view import units


def schemes_table(plan: RankPlan) -> Table:
    """A table of the best scheme of each kind: its score, predicted time, work of the busiest rank over the mean, and
    the most bytes that a rank receives from its own node and from others. The plan's own scheme is bold.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    nodes = -(-plan.ranks // plan.cluster.per_node)
    table.add_column(
        f"{units.count(plan.ranks)} ranks" + f", {units.count(nodes)} nodes" * (nodes > 1), overflow="fold"
    )
    for name in ("score", "time", "busiest", "inside", "between"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in plan.table:
        cells = _cells(each, plan.cluster)
        table.add_row(Text(str(each.scheme)), *cells, style="bold" if each is plan.best else "")
    return table


def _cells(priced: PricedScheme, cluster: Cluster) -> list[str]:
    work, *moved = (priced.total(name) for name in ("operations", "inside", "between"))
    busiest = f"{work.max() / work.mean():.2f}" if work.any() else "-"
    received = [units.size(int(each.max())) for each in moved]
    return [f"{priced.score:.2f}", units.duration(priced.seconds), busiest, *received]
