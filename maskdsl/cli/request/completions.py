"""What the shell offers behind a command: files, the patterns of the file, its parameters, and known names.

Nothing is offered where something is wrong: the command itself says what.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import get_args

from typer import Context

from maskdsl.analysis.cost.devices import DEVICES
from maskdsl.api import Module, load
from maskdsl.base.arguments import BackendName
from maskdsl.base.diagnostics import AttnError
from maskdsl.syntax.program import SUFFIX

Offer = tuple[str, str]
"""What may be typed, and what it means."""
STAGES = ("tree", "ir", "tiles", "plan", "routing", "selection", "reference", "tiled", "triton", "flex", "decode")
"""Names of those of `cli/stages.py`, which takes long to import."""


def files(incomplete: str) -> list[str]:
    """Files with patterns; of the only folder that fits, what is in it. Shells are told no name that is not shown."""
    folder, begun = incomplete.rpartition("/")[0], incomplete.rpartition("/")[2]
    before = incomplete[: len(incomplete) - len(begun)]
    try:
        found = Path(folder or ("/" if before else ".")).iterdir()
        entries = sorted(each for each in found if each.name.isprintable())
    except OSError:
        return []
    fitting = [each for each in entries if each.name.startswith(begun) and (begun or not each.name.startswith("."))]
    folders = [f"{before}{each.name}/" for each in fitting if each.is_dir()]
    names = [f"{before}{each.name}" for each in fitting if each.suffix == SUFFIX and each.is_file()]
    return files(folders[0]) or folders if len(folders) == 1 and not names else [*names, *folders]


def words(context: Context, incomplete: str) -> list[Offer]:
    """Patterns and stacks, until one is named, and parameters that are not given yet."""
    try:
        module = load(context.params["file"])
    except (AttnError, KeyError, TypeError):
        return []
    given = [word for word in context.params.get("words") or [] if word != incomplete]
    names = [word for word in given if "=" not in word]
    offers = [*_parameters(module, names, given), *(() if names else _subjects(module))]
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def _subjects(module: Module) -> Iterator[Offer]:
    for name, found in module.everything.items():
        yield name, next(iter(found.doc.splitlines()), "")


def _parameters(module: Module, names: list[str], given: list[str]) -> Iterator[Offer]:
    """With their defaults, to be changed."""
    everything = module.everything
    chosen = names[0] if names else next(iter(everything)) if len(everything) == 1 else None
    if chosen not in everything:
        return
    known = {word.partition("=")[0] for word in given if "=" in word}
    for name, default in everything[chosen].parameters.items():
        if name not in known:
            yield f"{name}={(default or '').replace(' ', '')}", "a parameter" if default else "must be given"


def _one_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Of a few names."""
    names = list(known)
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


stages = _one_of(STAGES)
gpus = _one_of([*(device.name for device in DEVICES), "all"])
orders = _one_of(["auto", "declared"])
dtypes = _one_of(["float64", "float32", "bfloat16", "float16"])
backends = _one_of(get_args(BackendName))
