"""The command line: `maskdsl check | fmt | show | view | stats | order | field | emit | verify | run | bench | lsp | doctor`.

The face furthest to the right: imports everything, and torch only in the commands that compute.
"""

from maskdsl.cli.app import main

__all__ = ["main"]
