"""A language for attention patterns, and its compiler.

Names are imported on first use, so that programs that need no torch start fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from maskdsl.base.display import draw_by

if TYPE_CHECKING:
    from maskdsl import inputs as inputs
    from maskdsl.analysis.counts.stack_stats import StackStats as StackStats
    from maskdsl.analysis.counts.stats import Stats as Stats
    from maskdsl.analysis.reach.receptive_field import Field as Field
    from maskdsl.analysis.tiles.block_map import BlockMap as BlockMap
    from maskdsl.api import BoundStack as BoundStack
    from maskdsl.api import Mask as Mask
    from maskdsl.api import Module as Module
    from maskdsl.api import Pattern as Pattern
    from maskdsl.api import Stack as Stack
    from maskdsl.api import compile as compile
    from maskdsl.api import load as load
    from maskdsl.api import parse as parse
    from maskdsl.api.examples import examples as examples
    from maskdsl.api.layer_plans import shard_layers as shard_layers
    from maskdsl.api.recognition import Imported as Imported
    from maskdsl.api.recognition import from_dense as from_dense
    from maskdsl.api.recognition import from_mask_mod as from_mask_mod
    from maskdsl.api.verify import Verdict as Verdict
    from maskdsl.api.verify import verify as verify
    from maskdsl.base.arguments import BackendName as BackendName
    from maskdsl.base.diagnostics import AttnError as AttnError
    from maskdsl.base.diagnostics import AttnWarning as AttnWarning
    from maskdsl.distributed.homes import ShardScheme as ShardScheme
    from maskdsl.ir.heads import Heads as Heads
    from maskdsl.runtime.attention import Attention as Attention
    from maskdsl.runtime.attention import FollowingAttention as FollowingAttention
    from maskdsl.runtime.methods.prepared import PreparedAttention as PreparedAttention
    from maskdsl.runtime.methods.prepared_decode import PreparedDecode as PreparedDecode
    from maskdsl.runtime.packed import packed_attention as packed_attention
    from maskdsl.runtime.routing.routing_state import RoutingState as RoutingState

HOMES = {
    "Attention": "maskdsl.runtime.attention",
    "AttnError": "maskdsl.base.diagnostics",
    "AttnWarning": "maskdsl.base.diagnostics",
    "BackendName": "maskdsl.base.arguments",
    "BlockMap": "maskdsl.analysis.tiles.block_map",
    "BoundStack": "maskdsl.api",
    "Field": "maskdsl.analysis.reach.receptive_field",
    "FollowingAttention": "maskdsl.runtime.attention",
    "Heads": "maskdsl.ir.heads",
    "Imported": "maskdsl.api.recognition",
    "Mask": "maskdsl.api",
    "Module": "maskdsl.api",
    "Pattern": "maskdsl.api",
    "PreparedAttention": "maskdsl.runtime.methods.prepared",
    "PreparedDecode": "maskdsl.runtime.methods.prepared_decode",
    "RoutingState": "maskdsl.runtime.routing.routing_state",
    "ShardScheme": "maskdsl.distributed.homes",
    "Stack": "maskdsl.api",
    "StackStats": "maskdsl.analysis.counts.stack_stats",
    "Stats": "maskdsl.analysis.counts.stats",
    "Verdict": "maskdsl.api.verify",
    "compile": "maskdsl.api",
    "examples": "maskdsl.api.examples",
    "from_dense": "maskdsl.api.recognition",
    "from_mask_mod": "maskdsl.api.recognition",
    "load": "maskdsl.api",
    "packed_attention": "maskdsl.runtime.packed",
    "parse": "maskdsl.api",
    "shard_layers": "maskdsl.api.layer_plans",
    "verify": "maskdsl.api.verify",
}
_MODULES = ("inputs",)
"""Modules that are read as attributes."""


def _drawn(*values: object) -> str:
    """HTML of these values, for notebooks."""
    from maskdsl.view.notebook import html  # start-up time

    return html(*values)


draw_by(_drawn)
__version__ = "0.2.0"
__all__ = ["__version__", *HOMES]


if not TYPE_CHECKING:  # type checkers would take any name for one of the package

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"maskdsl.{name}")
        if name not in HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
