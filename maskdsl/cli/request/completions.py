"""Shell completion: files, the patterns of a file, their parameters, and known names.

Nothing is offered if something is wrong: the command itself reports it.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from click import Context, Parameter
from click.shell_completion import CompletionItem

import maskdsl
from maskdsl.analysis.cost.devices import DEVICES
from maskdsl.base.attn_paths import SUFFIX
from maskdsl.base.diagnostics import AttnError

STAGES = tuple("tree ir tiles plan routing selection products reference tiled native triton flex decode".split())  # noqa: SIM905
"""The names of the stages in `cli/stages.py`, which is slow to import."""
ENGINES = ("flex", "cudnn", "flashmask", "magi", "flashinfer", "sdpa")
"""The names of `cli/engine_arrays.py`, likewise."""
BACKENDS = ("auto", "triton", "native", "tiled", "reference")
"""The values of `BackendName` of `base/arguments.py`, which imports NumPy."""


def files(context: Context, parameter: Parameter, incomplete: str) -> list[str]:
    """Files with patterns, and folders; if one folder is the only match, its entries. No unprintable names."""
    return _entries(incomplete)


def _entries(incomplete: str) -> list[str]:
    folder, begun = incomplete.rpartition("/")[0], incomplete.rpartition("/")[2]
    before = incomplete[: len(incomplete) - len(begun)]
    try:
        listed = Path(folder or ("/" if before else ".")).iterdir()
        entries = sorted(each for each in listed if each.name.isprintable())
    except OSError:
        return []
    fitting = [each for each in entries if each.name.startswith(begun) and (begun or not each.name.startswith("."))]
    folders = [f"{before}{each.name}/" for each in fitting if each.is_dir()]
    names = [f"{before}{each.name}" for each in fitting if each.suffix == SUFFIX and each.is_file()]
    return _entries(folders[0]) or folders if len(folders) == 1 and not names else [*names, *folders]


def words(context: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Patterns and stacks until one is named, and parameters that are not given yet."""
    try:
        module = maskdsl.load(context.params["file"])
    except (AttnError, KeyError, TypeError):
        return []
    given = [word for word in context.params.get("words") or [] if word != incomplete]
    names = [word for word in given if "=" not in word]
    offers = [*_parameters(module, names, given), *(() if names else _subjects(module))]
    return [offer for offer in offers if offer.value.startswith(incomplete)]


def _subjects(module: "maskdsl.Module") -> Iterator[CompletionItem]:
    for name, subject in module.everything.items():
        yield CompletionItem(name, help=next(iter(subject.doc.splitlines()), ""))


def _parameters(module: "maskdsl.Module", names: list[str], given: list[str]) -> Iterator[CompletionItem]:
    """Parameters that are not given yet, with their defaults."""
    everything = module.everything
    chosen = names[0] if names else next(iter(everything)) if len(everything) == 1 else None
    if chosen not in everything:
        return
    known = {word.partition("=")[0] for word in given if "=" in word}
    for name, default in everything[chosen].parameters.items():
        if name not in known:
            value = (default or "").replace(" ", "")
            yield CompletionItem(f"{name}={value}", help="a parameter" if default else "must be given")


def _one_of(known: Iterable[str]) -> Callable[[Context, Parameter, str], list[str]]:
    """A completion from a fixed list of names."""
    names = list(known)
    return lambda context, parameter, incomplete: [name for name in names if name.startswith(incomplete)]


stages = _one_of(STAGES)
engines = _one_of(ENGINES)
gpus = _one_of([*(device.name for device in DEVICES), "all"])
orders = _one_of(["auto", "declared"])
dtypes = _one_of(["float64", "float32", "bfloat16", "float16"])
backends = _one_of(BACKENDS)
