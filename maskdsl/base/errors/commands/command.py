"""E5xx: what can be wrong with a command line. Raised by `cli`."""

from maskdsl.base.diagnostics import Diagnostic


class SeveralPatterns(Diagnostic):
    code = "E501"
    message = "`{file}` has several {what}"
    help = "name one of them behind the file: {known}"

    file: str
    what: str
    known: str


class NoPattern(Diagnostic):
    code = "E502"
    message = "`{file}` declares no pattern"
    help = "a pattern of the standard library can be named behind the file"

    file: str


class StrayWord(Diagnostic):
    code = "E503"
    message = "the pattern is `{pattern}`, and `{word}` is no parameter"
    help = "parameters are given as name=value"

    pattern: str
    word: str


class RepeatedParameter(Diagnostic):
    code = "E504"
    message = "`{name}` is given twice"

    name: str


class NotAValue(Diagnostic):
    code = "E505"
    message = "`{text}` is no value of a parameter"
    label = "this is not known here"
    help = "a value is a number, True, False, a tuple such as (7, 7), the name of an axis, or arithmetic on numbers"

    text: str


class NotAnInput(Diagnostic):
    code = "E506"
    message = "`{text}` says no input"
    help = "write --input name=file.npy"

    text: str


class UnreadableInput(Diagnostic):
    code = "E507"
    message = "the values of `{name}` cannot be read from `{file}`: {reason}"
    help = "numpy.save writes such files"

    name: str
    file: str
    reason: str


class UnknownChoice(Diagnostic):
    code = "E508"
    message = "there is no {what} `{name}`"
    help = "there are {known}"

    what: str
    name: str
    known: str


class UnknownHead(Diagnostic):
    code = "E509"
    message = "there is no head {head}"
    help = "there are {heads} heads, from 0; --heads says how many"

    head: int
    heads: int


class NotABlock(Diagnostic):
    code = "E510"
    message = "`{text}` is no size of a block"
    help = "write --block 128, or --block 128x64 for 128 queries and 64 keys"

    text: str


class NothingToTime(Diagnostic):
    code = "E511"
    message = "nothing can be computed here: {reason}"

    reason: str


class NotWritten(Diagnostic):
    code = "E512"
    message = "`{file}` cannot be written: {reason}"

    file: str
    reason: str


class StackNotTaken(Diagnostic):
    code = "E520"
    message = "`{name}` is a stack of layers, and this command takes one pattern"
    help = "its layers are {layers}"

    name: str
    layers: str


class NotForStacks(Diagnostic):
    code = "E521"
    message = "`{option}` is for patterns, and `{name}` is a stack"

    option: str
    name: str


class NoPictures(Diagnostic):
    code = "E522"
    message = "pictures are drawn by matplotlib, which is not installed"
    help = "pip install matplotlib"


class NoLanguageServer(Diagnostic):
    code = "E530"
    message = "the language server needs pygls, which is not installed"
    help = "pip install 'maskdsl[lsp]'"


class NotAToken(Diagnostic):
    code = "E513"
    message = "`{text}` is no token"
    help = (
        "write its position, such as 4093, its cell of a grid, such as 3,17, or of a space by name, such as image:3,17"
    )

    text: str


class NoSuchToken(Diagnostic):
    code = "E514"
    message = "there is no {side} `{text}`"
    help = "{sizes}"

    side: str
    text: str
    sizes: str


class NotARange(Diagnostic):
    code = "E515"
    message = "`{text}` is no range of tokens"
    help = "write {option} 100:164, or 100: for all from there on, or 100 for one"

    option: str
    text: str


class RangeOutside(Diagnostic):
    code = "E516"
    message = "{option} {text} holds no {what}"
    help = "there are {length} {what}, from 0; the end of a range is not part of it"

    option: str
    text: str
    length: int
    what: str


class NotComparable(Diagnostic):
    code = "E517"
    message = "`{first}` and `{second}` have no map in common: {reason}"
    help = "give them the same numbers of queries and keys"

    first: str
    second: str
    reason: str


class OnlyInTerminals(Diagnostic):
    code = "E518"
    message = "`{option}` is for maps in the terminal"
    help = "leave out --out and --json"

    option: str


class TooLargeToMake(Diagnostic):
    code = "E519"
    message = "the input `{name}` would have {shape} values, too many to make up"
    label = "at most {limit} are"
    help = "give smaller parameters, or values: --input {name}=file.npy"

    name: str
    shape: str
    limit: int


class TooLongToVerify(Diagnostic):
    code = "E459"
    message = "`{name}` has {count:,} tokens at these parameters, and single pairs of {limit:,} at most are looked at"
    help = "give a smaller value, or leave the parameter out: what is not given is drawn"

    name: str
    count: int
    limit: int
