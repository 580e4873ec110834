"""Results of campaigns, which run in pieces: a file of pieces, one a line."""

import json
import subprocess
from pathlib import Path


def commit() -> str:
    """What is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout.strip()


def add(piece: dict[str, object], file: Path) -> None:
    """Adds a piece to a campaign."""
    pieces = json.loads(file.read_text())["pieces"] if file.exists() else []
    lines = ",\n".join(f"    {json.dumps(each)}" for each in [*pieces, piece])
    file.write_text(f'{{\n  "pieces": [\n{lines}\n  ]\n}}\n')
