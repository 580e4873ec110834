"""The paths of .attn files."""

from pathlib import Path

from maskdsl.base.diagnostics import nearest_name

SUFFIX = ".attn"


def nearest_file(path: Path, name: str) -> str | None:
    """The path of the .attn file with the most similar name in the same directory, in the user's spelling `name`.

    The ending, which all of them have, makes no name similar, and `path` may lack it.
    """
    try:
        known = [entry.stem for entry in path.parent.iterdir() if entry.suffix == SUFFIX]
    except (OSError, ValueError):  # ValueError: an impossible path
        return None
    nearest = nearest_name(path.name.removesuffix(SUFFIX), known)
    return None if nearest is None else str(Path(name).with_name(f"{nearest}{SUFFIX}"))
