"""The command line: checks, draws, measures, explains, compiles, runs and serves patterns. `app` has the commands.

The face furthest to the right: imports everything, and torch only in the commands that compute.
"""

import sys

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as shells have it."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits: 0, 1 where a check found something, 2 for what the user got wrong, 130 for Ctrl-C."""
    try:
        from maskdsl.cli.app import invoke  # start-up time: it may be interrupted as well

        invoke(arguments)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


__all__ = ["main"]
