"""E543 and E544: errors of examples, and of files that are made from them. Raised by `cli`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownExample(Diagnostic):
    code = "E543"
    message = "`{name}` is neither a file nor an example"
    help = "give a path that ends in .attn, or the name of an example: `maskdsl new --list` lists them"

    name: str


class FileExists(Diagnostic):
    code = "E544"
    message = "`{file}` exists, and is left as it is"
    help = "give another name, or remove it"

    file: str
