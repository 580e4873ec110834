"""What `docs/python.md` documents."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text()
ENTRY = re.compile(r"^::: ([\w.]+)\n((?:    .*\n)*)", re.M)
DOCUMENTED = {
    path: re.findall(r"\w+", found[1]) if (found := re.search(r"members: \[(.*)\]", options)) else []
    for path, options in ENTRY.findall(PAGE)
}
"""By its path, the public names of a class."""
