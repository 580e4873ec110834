"""`python -m maskdsl`."""

from maskdsl.cli import main

main()
