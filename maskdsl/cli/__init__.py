"""The command line: checks, draws, measures, explains, compiles, runs and serves patterns. `app` has the commands.

The face furthest to the right: imports everything, and torch only in the commands that compute.
"""

from maskdsl.cli.app import main

__all__ = ["main"]
