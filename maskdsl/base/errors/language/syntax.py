"""E1xx: errors in the text, found before its meaning is known, and in the files that it uses."""

from typing import ClassVar

from maskdsl.base.diagnostics import Diagnostic


class UnexpectedWord(Diagnostic):
    code: ClassVar[str] = "E101"
    message: ClassVar[str] = "unexpected {found}"
    label: ClassVar[str] = "expected {expected}"
    help: ClassVar[str] = "{advice}"

    found: str
    expected: str
    advice: str = ""


class UnexpectedEnd(Diagnostic):
    code: ClassVar[str] = "E102"
    message: ClassVar[str] = "the text ends too early"
    label: ClassVar[str] = "expected {expected}"

    expected: str


class UnclosedBracket(Diagnostic):
    code: ClassVar[str] = "E103"
    message: ClassVar[str] = "`{opener}` is never closed"
    label: ClassVar[str] = "no `{closer}` for this"

    opener: str
    closer: str


class UnmatchedBracket(Diagnostic):
    code: ClassVar[str] = "E104"
    message: ClassVar[str] = "`{closer}` closes nothing"
    label: ClassVar[str] = "{reason}"

    closer: str
    reason: str


class UnknownWord(Diagnostic):
    code: ClassVar[str] = "E105"
    message: ClassVar[str] = "unexpected name `{name}`"
    label: ClassVar[str] = "expected {expected}"
    help: ClassVar[str] = "{advice}"

    name: str
    expected: str
    advice: str = ""


class ForeignSpelling(Diagnostic):
    code: ClassVar[str] = "E106"
    message: ClassVar[str] = "`{found}` is not part of the language"
    label: ClassVar[str] = "{advice}"

    found: str
    advice: str


class SingleEquals(Diagnostic):
    code: ClassVar[str] = "E107"
    message: ClassVar[str] = "`=` does not compare"
    label: ClassVar[str] = "equality is written `==`"


class UnterminatedString(Diagnostic):
    code: ClassVar[str] = "E108"
    message: ClassVar[str] = "the string is not closed"
    label: ClassVar[str] = 'no `"` on this line closes it'


class UnknownEscape(Diagnostic):
    code: ClassVar[str] = "E109"
    message: ClassVar[str] = "unknown escape `{escape}` in a string"
    help: ClassVar[str] = 'the escapes are `\\\\`, `\\"`, `\\n`, `\\r` and `\\t`'

    escape: str


class UnknownCharacter(Diagnostic):
    code: ClassVar[str] = "E110"
    message: ClassVar[str] = "unexpected character `{character}` ({point})"
    label: ClassVar[str] = "{reason}"

    character: str
    point: str
    reason: str


class MalformedNumber(Diagnostic):
    code: ClassVar[str] = "E111"
    message: ClassVar[str] = "`{found}` is not a number"
    label: ClassVar[str] = "{advice}"

    found: str
    advice: str


class NumberTooLarge(Diagnostic):
    code: ClassVar[str] = "E112"
    message: ClassVar[str] = "the number is too large"
    label: ClassVar[str] = "the largest {kind} is {limit}"

    kind: str
    limit: str


class ReservedWord(Diagnostic):
    code: ClassVar[str] = "E113"
    message: ClassVar[str] = "`{word}` is a word of the language and cannot be a name"
    label: ClassVar[str] = "expected {expected}"

    word: str
    expected: str


class NotQuantifier(Diagnostic):
    code: ClassVar[str] = "E114"
    message: ClassVar[str] = "`{name}` takes no `for`"
    label: ClassVar[str] = "only `any`, `all` and `sum` range over a variable"

    name: str


class NestingTooDeep(Diagnostic):
    code: ClassVar[str] = "E115"
    message: ClassVar[str] = "nested more than {limit} deep"
    help: ClassVar[str] = "name some of the inner expressions with `let` or `def`"

    limit: int


class FileTooLarge(Diagnostic):
    code: ClassVar[str] = "E116"
    message: ClassVar[str] = "`{name}` is larger than {limit:,} bytes"

    name: str
    limit: int


class NotUtf8(Diagnostic):
    code: ClassVar[str] = "E117"
    message: ClassVar[str] = "`{name}` is not UTF-8 text: byte {byte:#04x} at offset {offset}"

    name: str
    byte: int
    offset: int


class NoResult(Diagnostic):
    code: ClassVar[str] = "E118"
    message: ClassVar[str] = "the block ends without a result"
    label: ClassVar[str] = "expected an expression before this"
    help: ClassVar[str] = (
        "a result that begins with `(`, `+` or `-` continues the `let` before it: put the value of that `let` in "
        "parentheses"
    )


class TooManyWords(Diagnostic):
    code: ClassVar[str] = "E119"
    message: ClassVar[str] = "`{name}` has more than {limit:,} words and symbols"
    label: ClassVar[str] = "the first one too many"

    name: str
    limit: int


class FileNotFound(Diagnostic):
    code: ClassVar[str] = "E120"
    message: ClassVar[str] = "there is no file `{name}`"

    name: str


class FileUnreadable(Diagnostic):
    code: ClassVar[str] = "E121"
    message: ClassVar[str] = "cannot read `{name}`: {reason}"

    name: str
    reason: str


class NotAttnFile(Diagnostic):
    code: ClassVar[str] = "E122"
    message: ClassVar[str] = "`{name}` is not an .attn file"

    name: str


class UseOutside(Diagnostic):
    code: ClassVar[str] = "E123"
    message: ClassVar[str] = "`{name}` is outside the directory of the first file"
    help: ClassVar[str] = "files may be used from `{root}`, and from directories that the caller allows"

    name: str
    root: str


class UseCycle(Diagnostic):
    code: ClassVar[str] = "E124"
    message: ClassVar[str] = "files use each other in a circle: {chain}"

    chain: str


class UseLimit(Diagnostic):
    code: ClassVar[str] = "E125"
    message: ClassVar[str] = "{what}: the limit is {limit:,}"

    what: str
    limit: int


class UseInText(Diagnostic):
    code: ClassVar[str] = "E126"
    message: ClassVar[str] = "a text that does not come from a file cannot use other files"
    help: ClassVar[str] = "load it from a file, or give the directory that its paths start from"


class DuplicateDeclaration(Diagnostic):
    code: ClassVar[str] = "E127"
    message: ClassVar[str] = "`{name}` is declared twice"
    label: ClassVar[str] = "declared again here"

    name: str


class PathAsText(Diagnostic):
    code = "E311"
    message = "`{text}` is the path of a file, not the text of a pattern"
    help = "read files with maskdsl.load({text!r})"

    text: str


class NoDimensions(Diagnostic):
    code = "E128"
    message = "the input `{name}` has no dimensions"
    label = "`[` is expected behind this"
    help = "write `{kind}[tokens]` for one value a token; the dimensions are {dimensions}"

    name: str
    kind: str
    dimensions: str


class PythonDefinition(Diagnostic):
    code = "E129"
    message = "the body of a macro follows `=`"
    label = "this is how Python writes it"
    help = "write `def near(size) = abs(q - k) < size`: without `:` and `return`, and `q` and `k` need not be passed"


class BracketsInWhere(Diagnostic):
    code = "E251"
    message = "`{word}` {side} a `where` needs brackets"
    label = "this can be read in two ways"
    help = "write `{inside}`, or `{outside}`, which is how earlier versions read it"

    word: str
    side: str
    inside: str
    outside: str
