"""Compiled masks as text, and back: what exported programs carry, so that other processes can run them."""

import json
from dataclasses import astuple
from typing import Any

from maskdsl.analysis.orders.pattern_text import PatternText, texts_of
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import OtherPattern
from maskdsl.base.source import Source
from maskdsl.ir.heads import Heads
from maskdsl.runtime.compiled.compiled_mask import Bound, CompiledMask, bound_by_text, make_by
from maskdsl.runtime.compiled.following import Following, FollowingBranches
from maskdsl.runtime.routing.listed_mask import ListedMask
from maskdsl.runtime.torch_ops.dropped_mask import DroppedMask
from maskdsl.syntax.program import program_of_files


def carried(compiled: CompiledMask) -> str:
    """The handle of a compiled mask, and behind it its text, of which another process makes it anew.

    The handle alone for masks that were derived from others within a call, and where a number has more digits than
    Python writes: such a mask has no kernels.
    """
    try:
        text = json.dumps(_text_of(compiled), separators=(",", ":"))
    except ValueError:
        return compiled.handle
    return compiled.handle if text == "null" else f"{compiled.handle} {text}"


def _text_of(compiled: CompiledMask) -> dict[str, Any] | None:
    match compiled:
        case Bound(text=PatternText() as text):
            plan = compiled.plan
            heads = plan.mask.whole or Heads(plan.mask.heads)
            options = compiled.backend, plan.refine, plan.tune
            return {"kind": "pattern", "text": astuple(text), "heads": astuple(heads), "options": options}
        case Following() as one:
            asked = one.pattern, one.values, one.follow, astuple(one.heads), one.order, one.backend
            return {"kind": "following", "files": texts_of(one.program), "asked": (*asked, one.refine, one.tune)}
        case FollowingBranches(whole=whole, numbers=numbers):
            return {"kind": "branches", "of": _text_of(whole), "numbers": numbers}
        case DroppedMask(whole=whole):
            of = _text_of(whole)
            return of and {"kind": "dropout", "of": of}
        case ListedMask(whole=whole):
            of = _text_of(whole)
            return of and {"kind": "lists", "of": of}
        case _:
            return None


def _made(text: str) -> CompiledMask:
    """The compiled mask of a text. Raises `AttnError` where it is none, and as binding does."""
    try:
        return _made_of(json.loads(text))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise AttnError(OtherPattern()) from error


def _made_of(text: Any) -> CompiledMask:
    match text["kind"]:
        case "pattern":
            backend, refine, tune = text["options"]
            return bound_by_text(PatternText(*_tuples(text["text"])), Heads(*text["heads"]), backend, refine, tune)
        case "following":
            program = program_of_files([Source(name, each) for name, each in text["files"]])
            pattern, values, follow, heads, order, backend, refine, tune = _tuples(text["asked"])
            return Following(program, pattern, values, follow, Heads(*heads), order, backend, refine, tune)
        case "branches":
            whole = _made_of(text["of"])
            if not isinstance(whole, Following):
                raise TypeError(type(whole))
            return FollowingBranches(whole, tuple(text["numbers"]))
        case "dropout":
            return DroppedMask(_made_of(text["of"]))
        case "lists":
            return ListedMask(_made_of(text["of"]))
        case _:
            raise ValueError(text["kind"])


def _tuples(value: Any) -> Any:
    """A value of JSON with tuples for its lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


make_by(_made)
