"""E1xx: errors in the text, found before its meaning is known, and in the files that it uses."""

from maskdsl.base.diagnostics import Diagnostic


class UnexpectedWord(Diagnostic):
    code = "E101"
    message = "unexpected {found}"
    label = "expected {expected}"
    help = "{advice}"

    found: str
    expected: str
    advice: str = ""


class UnexpectedEnd(Diagnostic):
    code = "E102"
    message = "the text ends too early"
    label = "expected {expected}"

    expected: str


class UnclosedBracket(Diagnostic):
    code = "E103"
    message = "`{opener}` is never closed"
    label = "no `{closer}` for this"

    opener: str
    closer: str


class UnmatchedBracket(Diagnostic):
    code = "E104"
    message = "`{closer}` closes nothing"
    label = "{reason}"

    closer: str
    reason: str


class UnknownWord(Diagnostic):
    code = "E105"
    message = "unexpected name `{name}`"
    label = "expected {expected}"
    help = "{advice}"

    name: str
    expected: str
    advice: str = ""


class ForeignSpelling(Diagnostic):
    code = "E106"
    message = "`{found}` is not part of the language"
    label = "{advice}"

    found: str
    advice: str


class SingleEquals(Diagnostic):
    code = "E107"
    message = "`=` does not compare"
    label = "equality is written `==`"


class UnterminatedString(Diagnostic):
    code = "E108"
    message = "the string is not closed"
    label = 'no `"` on this line closes it'


class UnknownEscape(Diagnostic):
    code = "E109"
    message = "unknown escape `{escape}` in a string"
    help = 'the escapes are `\\\\`, `\\"`, `\\n`, `\\r` and `\\t`'

    escape: str


class UnknownCharacter(Diagnostic):
    code = "E110"
    message = "unexpected character `{character}` ({point})"
    label = "{reason}"

    character: str
    point: str
    reason: str


class MalformedNumber(Diagnostic):
    code = "E111"
    message = "`{found}` is not a number"
    label = "{advice}"

    found: str
    advice: str


class NumberTooLarge(Diagnostic):
    code = "E112"
    message = "the number is too large"
    label = "the largest {kind} is {limit}"

    kind: str
    limit: str


class ReservedWord(Diagnostic):
    code = "E113"
    message = "`{word}` is a word of the language and cannot be a name"
    label = "expected {expected}"

    word: str
    expected: str


class NotQuantifier(Diagnostic):
    code = "E114"
    message = "`{name}` takes no `for`"
    label = "only `any`, `all` and `sum` range over a variable"

    name: str


class NestingTooDeep(Diagnostic):
    code = "E115"
    message = "nested more than {limit} deep"
    help = "name some of the inner expressions with `let` or `def`"

    limit: int


class FileTooLarge(Diagnostic):
    code = "E116"
    message = "`{name}` is larger than {limit:,} bytes"

    name: str
    limit: int


class NotUtf8(Diagnostic):
    code = "E117"
    message = "`{name}` is not UTF-8 text: byte {byte:#04x} at offset {offset}"

    name: str
    byte: int
    offset: int


class NoResult(Diagnostic):
    code = "E118"
    message = "the block ends without a result"
    label = "expected an expression before this"
    help = (
        "a result that begins with `(`, `+` or `-` continues the `let` before it: put the value of that `let` in "
        "parentheses"
    )


class TooManyWords(Diagnostic):
    code = "E119"
    message = "`{name}` has more than {limit:,} words and symbols"
    label = "the first one too many"

    name: str
    limit: int


class FileNotFound(Diagnostic):
    code = "E120"
    message = "there is no file `{name}`"

    name: str


class FileUnreadable(Diagnostic):
    code = "E121"
    message = "cannot read `{name}`: {reason}"

    name: str
    reason: str


class NotAttnFile(Diagnostic):
    code = "E122"
    message = "`{name}` is not an .attn file"

    name: str


class UseOutside(Diagnostic):
    code = "E123"
    message = "`{name}` is outside the directory of the first file"
    help = "files may be used from `{root}`, and from directories that the caller allows"

    name: str
    root: str


class UseCycle(Diagnostic):
    code = "E124"
    message = "files use each other in a circle: {chain}"

    chain: str


class UseLimit(Diagnostic):
    code = "E125"
    message = "{what}: the limit is {limit:,}"

    what: str
    limit: int


class UseInText(Diagnostic):
    code = "E126"
    message = "a text that does not come from a file cannot use other files"
    help = "load it from a file, or give the directory that its paths start from"


class DuplicateDeclaration(Diagnostic):
    code = "E127"
    message = "`{name}` is declared twice"
    label = "declared again here"

    name: str


class PathAsText(Diagnostic):
    code = "E311"
    message = "`{text}` is the path of a file, not the text of a pattern"
    help = "read files with maskdsl.load({text!r})"

    text: str


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


class OldForm(Diagnostic):
    code = "E258"
    message = "the first version of the language wrote this; now it is `{text}`"
    label = "an old form"
    help = "run `maskdsl fmt --upgrade FILE`, which rewrites the file"

    text: str


class StrayBy(Diagnostic):
    code = "E259"
    message = "`by` gathers vectors of a route, as in `mean(k by chunk)`"
    label = "nothing is gathered here"
