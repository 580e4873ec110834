"""Completion in shells: `--show-completion` prints the script of the shell, `--install-completion` installs it.

The script calls `maskdsl` with `_MASKDSL_COMPLETE` set, and click answers. PowerShell, which click lacks, is here.
"""

import os
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from maskdsl.cli.declaring import Function
from maskdsl.cli.written_files import writing

_PROGRAM = "maskdsl"
_VARIABLE = "_MASKDSL_COMPLETE"
_FILES = {
    "bash": (".bash_completions/maskdsl.sh", ".bashrc", "source ~/.bash_completions/maskdsl.sh"),
    "zsh": (".zfunc/_maskdsl", ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
    "fish": (".config/fish/completions/maskdsl.fish", "", ""),
}
"""Where scripts go, below the home folder; the file that a shell reads when it starts, and its line for the script."""


class _PowerShell(ShellComplete):
    name = "powershell"
    source_template = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($word, $command, $cursor)
    $Env:%(complete_var)s = "powershell_complete"
    $Env:COMP_WORDS = $command.ToString()
    $Env:COMP_WORD = $word
    %(prog_name)s | Where-Object { $_ } | ForEach-Object {
        $value, $help = $_ -split "\\t", 2
        [System.Management.Automation.CompletionResult]::new($value, $value, "ParameterValue", $help)
    }
    $Env:%(complete_var)s = ""
}
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        incomplete = os.environ.get("COMP_WORD", "")
        words = split_arg_string(os.environ["COMP_WORDS"])[1:]
        return words[:-1] if incomplete else words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.value}\t{item.help or item.value}"


add_completion_class(_PowerShell)


def _current_shell() -> str:
    """The shell of the user's account, or PowerShell on Windows."""
    named = os.environ.get("SHELL", "")
    return Path(named).stem if named or os.name != "nt" else _PowerShell.name


def _script(shell: str) -> str:
    known = get_completion_class(shell)
    if known is None:
        raise click.UsageError(f"no completion for the shell `{shell}`; set SHELL to bash, zsh, fish or powershell")
    return known(click.Command(_PROGRAM), {}, _PROGRAM, _VARIABLE).source()


def _show(shell: str) -> None:
    click.echo(_script(shell))


def _install(shell: str) -> None:
    text = _script(shell)
    if shell not in _FILES:
        raise click.UsageError("add it to your profile: maskdsl --show-completion | Out-File -Append $PROFILE")
    script, profile, line = _FILES[shell]
    path = Path.home() / script
    with writing(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if profile:
        _add_line(Path.home() / profile, line.encode())
    click.echo(f"{shell} completion installed in {path}; it works in the next shell")


def _add_line(profile: Path, line: bytes) -> None:
    """Adds a line, where it is not yet, to a file in any encoding."""
    with writing(str(profile)), profile.open("a+b") as file:
        file.seek(0)
        if line not in file.read():
            file.write(b"\n%s\n" % line)


def _at_once(name: str, action: Callable[[str], None], help: str) -> Callable[[Function], Function]:
    """An option that does this in place of a command."""

    def act(context: click.Context, parameter: click.Parameter, given: bool) -> None:
        if given and not context.resilient_parsing:
            action(_current_shell())
            context.exit()

    return click.option(name, is_flag=True, is_eager=True, expose_value=False, callback=act, help=help)


install_completion = _at_once("--install-completion", _install, "Install completion for the current shell.")
show_completion = _at_once(
    "--show-completion", _show, "Show completion for the current shell, to copy it or customize the installation."
)
