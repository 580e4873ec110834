"""Escapes text of files and users for every format it is written into. Imports nothing of the project.

Each output format has a function here: Python, C, terminals, markup (HTML, SVG), JSON in a page, Markdown, PDF.
Whatever comes from a file, a command line or a call goes through it, so that it is never taken for code. No `.attn`
text may hold a `FORBIDDEN` character.
"""

import json
import re
from collections.abc import Iterable

LINE_END = re.compile(r"\r\n|\r|\n")
"""The ends of a line of an `.attn` text."""
FORBIDDEN = re.compile(
    "["
    r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters: terminal escapes, line ends for some readers
    r"\u2028\u2029"  # line ends for some readers
    r"\u202a-\u202e\u2066-\u2069"  # bidirectional controls: text is shown in another order
    r"\ud800-\udfff"  # surrogates, which are not characters
    "]"
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_IN_MARKDOWN = re.compile(r"(?P<code>(?<!`)(?P<fence>`+)[^`\n]+(?P=fence)(?!`))|[\\`*_\[\]<>#!|~&]")
_ENDS_OF_COMMENTS = re.compile(r"\*(?=/)|/(?=\*)")
_BACKTICKS = re.compile(r"`+")


def printable(text: str) -> str:
    """One line for terminals: unprintable characters are replaced, line ends too."""
    return "".join(character if character.isprintable() else _REPLACEMENT for character in text)


def printable_lines(text: str) -> str:
    """Lines for terminals: as `printable`, with line ends and tabs kept."""
    return "".join(each if each.isprintable() or each in "\n\t" else _REPLACEMENT for each in text)


def docstring(lines: Iterable[str]) -> list[str]:
    """The lines of a Python docstring with this text, quotes included. The text cannot end the docstring."""
    first, *rest = ["".join(map(_in_python, line)).replace('"""', r"\"\"\"").rstrip() for line in lines]
    return [f'"""{first}', *rest, '"""']


def c_comment(lines: Iterable[str]) -> list[str]:
    """The lines of a comment in C with this text. The text cannot end the comment: no line of it begins with a slash.

    Backslashes and unprintable characters are escaped as in a docstring, and a space parts an asterisk from a slash.
    """
    escaped = (_ENDS_OF_COMMENTS.sub(r"\g<0> ", "".join(map(_in_python, line))) for line in lines)
    first, *rest = escaped
    return [f"/* {first}".rstrip(), *(f" * {line}".rstrip() for line in rest), " */"]


def _in_python(character: str) -> str:
    """A character, escaped for a Python string if it is unprintable or a backslash."""
    if character == "\\" or not character.isprintable():
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character


def markup(text: str) -> str:
    """Text escaped for HTML and XML, in elements and attributes."""
    from html import escape  # start-up time

    return escape("".join(_REPLACEMENT if _is_no_xml(each) else each for each in text))


def _is_no_xml(character: str) -> bool:
    """Whether XML cannot hold the character (XML 1.0, 2.2), or `.attn` texts may not."""
    return character in "\ufffe\uffff" or FORBIDDEN.match(character) is not None


def script_json(value: object) -> str:
    """JSON for a script element: no HTML parser finds the end of the script or a comment in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def markdown(text: str) -> str:
    """Prose in Markdown, line ends kept: backticks mark code; links, HTML and fences are plain text."""
    marked = _IN_MARKDOWN.sub(lambda match: match["code"] or f"\\{match[0]}", printable_lines(text))
    return marked.replace("\n", "  \n")


def markdown_word(text: str) -> str:
    """Inline code in Markdown, on one line, between more backticks than the text has."""
    shown, fence = printable(" ".join(text.split())), "`" * (1 + _backticks(text))
    return f"{fence} {shown} {fence}" if len(fence) > 1 else f"{fence}{shown}{fence}"


def markdown_code(text: str) -> str:
    """A code block of the language in Markdown, whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + _backticks(text))
    return f"{fence}attn\n{printable_lines(text)}\n{fence}"


def _backticks(text: str) -> int:
    """The length of the longest run of backticks."""
    return max(map(len, _BACKTICKS.findall(text)), default=0)


def pdf_string(text: str) -> str:
    """Text escaped for a string in a PDF file, without its parentheses."""
    return re.sub(r"([\\()])", r"\\\1", printable(text))
