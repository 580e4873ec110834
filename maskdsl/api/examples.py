"""The example patterns, which are installed with the package as `maskdsl/example_files`."""

from importlib.resources import files
from pathlib import Path


def examples() -> dict[str, Path]:
    """The files of the examples by their names, such as `language/longformer`."""
    paths = sorted(Path(str(files("maskdsl"))).joinpath("example_files").glob("*/*.attn"))
    return {f"{path.parent.name}/{path.stem}": path for path in paths}
