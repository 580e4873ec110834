"""E5xx: errors of a command line. Raised by `cli`."""

from maskdsl.base.diagnostics import Diagnostic


class SeveralPatterns(Diagnostic):
    code = "E501"
    message = "`{file}` has several {what}"
    help = "name one of them after the file: {known}"

    file: str
    what: str
    known: str


class NoPattern(Diagnostic):
    code = "E502"
    message = "`{file}` declares no pattern"
    help = "declare one, or name a pattern of the standard library after the file"

    file: str


class StrayWord(Diagnostic):
    code = "E503"
    message = "`{word}` is not a parameter; the pattern is `{pattern}`"
    help = "give parameters as name=value"

    pattern: str
    word: str


class ValueWithoutName(Diagnostic):
    code = "E570"
    message = "`{word}` is neither a pattern nor a parameter"
    help = "give parameters as name=value, without spaces, such as {example}"

    word: str
    example: str


class NoFilesInFolder(Diagnostic):
    code = "E571"
    message = "there is no .attn file in the folder `{folder}`"
    help = "hidden folders and links to folders are not searched"

    folder: str


class RepeatedParameter(Diagnostic):
    code = "E504"
    message = "`{name}` is given twice"
    help = "give each parameter once"

    name: str


class NotAValue(Diagnostic):
    code = "E505"
    message = "`{text}` is not the value of a parameter"
    label = "this cannot be read"
    help = "give a number, True, False, a tuple such as (7, 7), the name of an axis, or arithmetic on numbers"

    text: str


class NotAnInput(Diagnostic):
    code = "E506"
    message = "`{text}` does not name an input and its file"
    help = "write --input name=file.npy"

    text: str


class UnreadableInput(Diagnostic):
    code = "E507"
    message = "the values of `{name}` cannot be read from `{file}`: {reason}"
    help = "save the values by numpy.save, and lists by numpy.savez(file, starts=..., columns=...)"

    name: str
    file: str
    reason: str


class UnknownChoice(Diagnostic):
    code = "E508"
    message = "there is no {what} `{name}`"
    help = "choose one of {known}"

    what: str
    name: str
    known: str


class UnknownHead(Diagnostic):
    code = "E509"
    message = "there is no head {head}"
    help = "heads are numbered from 0, and --heads says how many there are: now {heads}"

    head: int
    heads: int


class NotABlock(Diagnostic):
    code = "E510"
    message = "`{text}` is not the size of a tile"
    help = "write --block 128, or --block 128x64 for 128 queries and 64 keys"

    text: str


class NothingToTime(Diagnostic):
    code = "E511"
    message = "nothing can be computed here: {reason}"

    reason: str


class NotWritten(Diagnostic):
    code = "E512"
    message = "`{file}` cannot be written: {reason}"
    help = "{advice}"

    file: str
    reason: str
    advice: str = ""


class StackNotTaken(Diagnostic):
    code = "E520"
    message = "`{name}` is a stack of layers, and this command takes one pattern"
    help = "give one of its layers: {layers}"

    name: str
    layers: str


class NotForStacks(Diagnostic):
    code = "E521"
    message = "`{option}` works for patterns, and `{name}` is a stack"
    help = "leave it out, or name a pattern"

    option: str
    name: str


class NoPictures(Diagnostic):
    code = "E522"
    message = "pictures are drawn by matplotlib, which is not installed"
    help = "pip install 'maskdsl[pictures]'"


class NoLanguageServer(Diagnostic):
    code = "E530"
    message = "the language server needs pygls, which is not installed"
    help = "pip install 'maskdsl[lsp]'"


class NotAToken(Diagnostic):
    code = "E513"
    message = "`{text}` is not a token"
    help = "give {ways}"

    text: str
    ways: str


class NoSuchToken(Diagnostic):
    code = "E514"
    message = "there is no {side} `{text}`"
    help = "{sizes}"

    side: str
    text: str
    sizes: str


class NotARange(Diagnostic):
    code = "E515"
    message = "`{text}` is not a range of tokens"
    help = "write {option} 100:164, or 100: for all from 100 on, or 100 for one"

    option: str
    text: str


class RangeOutside(Diagnostic):
    code = "E516"
    message = "{option} {text} contains no {what}"
    help = "there are {length} {what}, numbered from 0; a range excludes its end"

    option: str
    text: str
    length: int
    what: str


class NotComparable(Diagnostic):
    code = "E517"
    message = "the maps of `{first}` and `{second}` cannot be compared: {reason}"
    help = "give them the same numbers of queries and keys"

    first: str
    second: str
    reason: str


class OnlyInTerminals(Diagnostic):
    code = "E518"
    message = "`{option}` only works for maps in the terminal"
    help = "leave out --out and --json"

    option: str


class TooLargeToMake(Diagnostic):
    code = "E519"
    message = "the input `{name}` would have {shape} values, too many to make up"
    label = "at most {limit} are made up"
    help = "give smaller parameters, or your own values: --input {name}=file.npy"

    name: str
    shape: str
    limit: int


class TooLongToVerify(Diagnostic):
    code = "E459"
    message = (
        "`{name}` has {count:,} tokens at these parameters, and pairs can be checked one by one for at most {limit:,}"
    )
    help = "give a smaller value, or leave the parameter out: one is then drawn at random"

    name: str
    count: int
    limit: int


class NoArraysFile(Diagnostic):
    code = "E523"
    message = "`--engine` writes arrays, and needs the name of a file that ends in .npz"
    help = "add --engine {engine} --out mask.npz"

    engine: str
