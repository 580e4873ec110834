"""The patterns of every example, at lengths that no tile divides."""

from collections.abc import Mapping
from pathlib import Path

import maskdsl

EXAMPLES = Path(__file__).parents[2] / "examples"
PATTERNS = [(file, name) for file in sorted(EXAMPLES.rglob("*.attn")) for name in maskdsl.load(file)]
LARGE = {"n": 1741, "h": 37, "w": 45, "t": 5, "text": 77, "targets": 301, "sources": 1741, "drafts": 45}
SMALL = {"n": 45, "h": 9, "w": 7, "t": 2, "text": 5, "targets": 17, "sources": 60, "drafts": 7}
LARGE |= {"instruction": 61, "documents": 7, "length": 149, "query": 45, "question": 301, "answers": 5}
SMALL |= {"instruction": 5, "documents": 3, "length": 9, "query": 7, "question": 7, "answers": 3}
LARGE |= {"tokens": 1741, "fused": 49}
SMALL |= {"tokens": 45, "fused": 9}
LARGE |= {"frames": 11, "tokens_per_frame": 157, "places": 157}
SMALL |= {"frames": 5, "tokens_per_frame": 9, "places": 9}
REACHES = ("size", "kernel", "stride", "prefix", "block", "radius", "chunk", "group", "span")


def awkward(pattern: maskdsl.Pattern, lengths: Mapping[str, int], heads: int = 2) -> maskdsl.Mask:
    """Axes have these lengths, `LARGE` or `SMALL`; what reaches far at small ones reaches 9 tokens."""
    parameters = pattern.parameters
    values = {name: lengths[name] for name in parameters if name in lengths}
    if lengths is SMALL:
        numbers = {name: int(value or 0) for name, value in parameters.items() if (value or "").isdigit()}
        values |= {name: 9 for name in REACHES if numbers.get(name, 0) > 60}
    return pattern.bind(heads=heads, **values)
