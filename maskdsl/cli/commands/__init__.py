"""What each command does. `cli/app.py` declares their arguments and options. Modules are imported on first use."""

from typing import TYPE_CHECKING

from maskdsl.base.late import late_modules

if TYPE_CHECKING:
    from maskdsl.cli.commands import check_and_fmt as check_and_fmt
    from maskdsl.cli.commands import differences as differences
    from maskdsl.cli.commands import doctor as doctor
    from maskdsl.cli.commands import emission as emission
    from maskdsl.cli.commands import explanations as explanations
    from maskdsl.cli.commands import lsp as lsp
    from maskdsl.cli.commands import new_file as new_file
    from maskdsl.cli.commands import order_and_shard as order_and_shard
    from maskdsl.cli.commands import pictures as pictures
    from maskdsl.cli.commands import receptive_fields as receptive_fields
    from maskdsl.cli.commands import run_and_bench as run_and_bench
    from maskdsl.cli.commands import show_and_stats as show_and_stats
    from maskdsl.cli.commands import show_json as show_json
    from maskdsl.cli.commands import view_page as view_page
else:
    __getattr__ = late_modules(__name__)
