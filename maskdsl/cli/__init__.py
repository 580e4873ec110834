"""The command line: checks, draws, measures, explains, compiles, runs and serves patterns. `app` has the commands.

The top layer: it may import everything, but imports torch only in commands that compute.
"""

import sys

INTERRUPTED = 130
"""The exit code after Ctrl-C, by the convention of shells."""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits: 0, 1 if a check found something, 2 for mistakes of the user, 130 after Ctrl-C."""
    try:
        from maskdsl.cli.app import invoke  # start-up time; imported here so that Ctrl-C works during the import

        invoke(arguments)
    except KeyboardInterrupt as interrupt:
        print(*interrupt.args or ["ended by Ctrl-C"], file=sys.stderr)
        sys.exit(INTERRUPTED)


__all__ = ["main"]
