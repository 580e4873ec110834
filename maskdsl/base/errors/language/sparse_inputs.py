"""E390 to E392: errors in declarations and reads of sparse inputs. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class WrongSparse(Diagnostic):
    code = "E390"
    message = "`{name}` is sparse: its dimensions are rows and columns, with `batch` and heads in front, if any"
    label = "{hint}"
    help = "for a graph of all tokens write `input {name}: sparse[tokens, tokens]`"

    name: str
    hint: str


class ListOfTokens(Diagnostic):
    code = "E391"
    message = "the index of the dimension `{dimension}` of a sparse input cannot depend on tokens"
    label = "this reads a token"
    help = "the last two indices are the row and the column of an entry, as in `{name}[{example}]`"

    name: str
    dimension: str
    example: str


class WrongNumbers(Diagnostic):
    code = "E392"
    message = "`{name}` has numbers of the entries of `{sparse}`, which must be its last dimension"
    label = "{hint}"
    help = "write `input {name}: {type}[{sparse}]`, or `{type}[heads, {sparse}]` for a number in each head"

    name: str
    sparse: str
    type: str
    hint: str
