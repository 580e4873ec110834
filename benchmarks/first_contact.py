"""First contact with a GPU: whether the kernels are right there, and how fast they are.

    python benchmarks/first_contact.py pack                 where there is a package index: wheels for Python 3.12
    python benchmarks/first_contact.py check --out DIR      on a machine with torch, Triton and those wheels: 4 minutes
    python benchmarks/first_contact.py measure --out DIR    6 minutes; with --long an hour
    python benchmarks/first_contact.py page                 docs/measured-gpu.md, of what is in benchmarks/results

Each step runs in a process of its own, and leaves a line in `DIR/contact.jsonl` as soon as it has ended. Without a GPU
each line says so. Nothing is installed: wheels are unpacked beside, unless their packages are there.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from contact import plans, runner, wheels
from contact.report import failures, page

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "measured-gpu.md"


def main() -> int:
    options = arguments()
    match options.command:
        case "pack":
            wheels.pack(options.folder)
        case "page":
            PAGE.write_text(page(runner.read(options.out / runner.LINES)))
        case "check":
            return called("check", plans.check(), options.seconds or plans.CHECK_SECONDS, options)
        case "measure":
            seconds = plans.LONG_SECONDS if options.long else plans.MEASURE_SECONDS
            return called("measure", plans.measure(options.long), options.seconds or seconds, options)
    return 0


def called(name: str, steps: list[runner.Step], seconds: float, options: argparse.Namespace) -> int:
    """Runs the steps of a call, and says what becomes of each. 1 if one of them failed, or ours in one of them."""
    lines = []
    with tempfile.TemporaryDirectory() as site:
        unpacked = wheels.unpack(options.wheels, Path(site))
        print(f"unpacked: {', '.join(unpacked) or 'nothing'}")
        for line in runner.run(name, steps, seconds, options.out, [Path(site)]):
            lines.append(line)
            said = f"{line['seconds']:6.1f} s  {line['step']}: {line['outcome']} {line.get('why', '')}"
            print(said.rstrip(), flush=True)
    return int(bool(failures(lines)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="download the wheels that a machine without a package index lacks")
    packing.add_argument("folder", type=Path, nargs="?", default=wheels.FOLDER)
    for name, text in (("check", "whether the kernels are right"), ("measure", "how fast they are")):
        calling = commands.add_parser(name, help=text)
        calling.add_argument("--out", type=Path, required=True, help="a folder for contact.jsonl and contact.log")
        calling.add_argument("--wheels", type=Path, default=wheels.FOLDER, help="where `pack` has put them")
        calling.add_argument("--seconds", type=float, help="as long as all steps may take")
        if name == "measure":
            calling.add_argument(
                "--long", action="store_true", help="more lengths and head dims, and more time for each"
            )
    paging = commands.add_parser("page", help="write docs/measured-gpu.md")
    paging.add_argument("--out", type=Path, default=RESULTS, help="the folder of contact.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
