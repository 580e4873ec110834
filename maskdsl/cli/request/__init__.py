"""Reads the words of a command line: masks, inputs, options, completions. Modules are imported on first use."""

from typing import TYPE_CHECKING

from maskdsl.base.late import late_modules

if TYPE_CHECKING:
    from maskdsl.cli.request import rank_options as rank_options
    from maskdsl.cli.request import shared_options as shared_options
else:
    __getattr__ = late_modules(__name__)
