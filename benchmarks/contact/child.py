"""The process of one step: `python -m contact.child MODULE:FUNCTION ARGUMENTS RESULT`. Its result goes to a file."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from contact.runner import FAILED, FAULTED

Keep = Callable[[dict[str, Any]], None]
"""Keeps what there is so far: all that remains of a step that does not reach its end."""


def main() -> None:
    target, arguments, path = sys.argv[1:]
    module, function = target.split(":")
    kept: dict[str, Any] = {}

    def keep(record: dict[str, Any]) -> None:
        kept.update(record)
        write(Path(path), kept)

    try:
        keep(getattr(import_module(module), function)(keep=keep, **json.loads(arguments)))
    except Exception as error:
        traceback.print_exc()
        keep({"outcome": FAULTED if is_lost() else FAILED, "why": said(error)})
        sys.stderr.flush()
        os._exit(1)  # what a lost GPU leaves behind can hang while Python ends


def write(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(json.dumps(record))
    fresh.replace(path)


def said(error: BaseException) -> str:
    """The type and first line of an error."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def is_lost() -> bool:
    """Whether this process has met an error of its GPU that stays: every later call would end with the same one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


if __name__ == "__main__":
    main()
