"""Text of files and users as what it is written into takes it: words there, never code. Imports nothing of the project.

Every output has its function here, and whatever comes from a file, a command line or a call goes through it: source
text of Python, terminals, markup (HTML, SVG), JSON in a page, Markdown, PDF. No `.attn` text may hold what is
`FORBIDDEN`.
"""

import json
import re
from collections.abc import Iterable
from html import escape

LINE_END = re.compile(r"\r\n|\r|\n")
"""What ends a line of an `.attn` text."""
FORBIDDEN = re.compile(
    "["
    r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters: commands to terminals, line ends of some readers
    r"\u2028\u2029"  # line ends of some readers
    r"\u202a-\u202e\u2066-\u2069"  # show text in an order that is not its own
    r"\ud800-\udfff"  # no characters: halves of one
    "]"
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_IN_MARKDOWN = re.compile(r"(?P<code>(?<!`)(?P<fence>`+)[^`\n]+(?P=fence)(?!`))|[\\`*_\[\]<>#!|~&]")
_BACKTICKS = re.compile(r"`+")


def printable(text: str) -> str:
    """One line for terminals: all that is not shown as a character is replaced, line ends too."""
    return "".join(character if character.isprintable() else _REPLACEMENT for character in text)


def printable_lines(text: str) -> str:
    """Lines for terminals: as `printable`, but for line ends and tabs."""
    return "".join(each if each.isprintable() or each in "\n\t" else _REPLACEMENT for each in text)


def docstring(lines: Iterable[str]) -> list[str]:
    """The lines of a Python docstring that says these lines, quotes included. None of them can end it."""
    first, *rest = ["".join(map(_in_python, line)).replace('"""', r"\"\"\"").rstrip() for line in lines]
    return [f'"""{first}', *rest, '"""']


def _in_python(character: str) -> str:
    """As it stands in a string of Python."""
    if character == "\\" or not character.isprintable():
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character


def markup(text: str) -> str:
    """Text of HTML, XML and their attributes."""
    return escape("".join(_REPLACEMENT if _is_no_xml(each) else each for each in text))


def _is_no_xml(character: str) -> bool:
    """Whether documents cannot hold it (XML 1.0, 2.2), or readers are told not to show what follows in its order."""
    return character in "\ufffe\uffff" or FORBIDDEN.match(character) is not None


def script_json(value: object) -> str:
    """JSON that no HTML parser takes for the end of a script or the beginning of a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def markdown(text: str) -> str:
    """Prose in Markdown, its line ends kept: words between backticks are code; links, HTML and fences are words."""
    marked = _IN_MARKDOWN.sub(lambda found: found["code"] or f"\\{found[0]}", printable_lines(text))
    return marked.replace("\n", "  \n")


def markdown_word(text: str) -> str:
    """Code inside of prose in Markdown, on one line, between more backticks than it has."""
    shown, fence = printable(" ".join(text.split())), "`" * (1 + _backticks(text))
    return f"{fence} {shown} {fence}" if len(fence) > 1 else f"{fence}{shown}{fence}"


def markdown_code(text: str) -> str:
    """A block of the language in Markdown, whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + _backticks(text))
    return f"{fence}attn\n{printable_lines(text)}\n{fence}"


def _backticks(text: str) -> int:
    """How many stand side by side, at most."""
    return max(map(len, _BACKTICKS.findall(text)), default=0)


def pdf_string(text: str) -> str:
    """What stands between the parentheses of a string in a PDF file."""
    return re.sub(r"([\\()])", r"\\\1", printable(text))
