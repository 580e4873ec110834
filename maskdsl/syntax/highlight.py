"""A Pygments lexer for the language, for documentation and terminals: registered in `pygments.lexers` as `attn`."""

from typing import ClassVar

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

from maskdsl.syntax.mistakes import RESERVED_WORDS, STATEMENT_WORDS

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DIGITS = r"[0-9]+(_[0-9]+)*"
_EXPONENT = rf"[eE][+-]?{_DIGITS}"
_NAMING = ("space", "input", "coord", "let", "route", "branch")
"""Words of statements that are followed by the name that they declare."""
_NOT_AFTER = r"(?!(?:where|and|or|if|else|for|in|by)\b)"
_AFTER = rf'(?=[ \t]+{_NOT_AFTER}[A-Za-z_0-9("]|[ \t]+[-+][^\s>+])'
"""The text after the word of a statement. The same word can be a name elsewhere."""


_PLAIN = "|".join(sorted({*STATEMENT_WORDS, "always"} - set(_NAMING)))


class AttnLexer(RegexLexer):
    """`.attn` files."""

    name = "attn"
    aliases: ClassVar[list[str]] = ["attn"]
    filenames: ClassVar[list[str]] = ["*.attn"]
    mimetypes: ClassVar[list[str]] = ["text/x-attn"]
    tokens: ClassVar[dict[str, list[object]]] = {
        "root": [
            (rf"^([ \t]*)({_PLAIN})(?=[ \t]*\n)", bygroups(Text.Whitespace, Keyword)),
            (r"[ \t\r]+", Text.Whitespace),
            (r"\n", Text.Whitespace),
            (r"##(?!#)[^\n]*", String.Doc),
            (r"#[^\n]*", Comment.Single),
            (r'"', String, "string"),
            (rf"{_DIGITS}(\.{_DIGITS}({_EXPONENT})?|{_EXPONENT})(?![0-9A-Za-z_])", Number.Float),
            (rf"{_DIGITS}(?![0-9A-Za-z_])", Number.Integer),
            (rf"([qk])(\.)({_NAME})", bygroups(Name.Builtin.Pseudo, Punctuation, Name.Attribute)),
            (rf"({_NAME})(\.)({_NAME})", bygroups(Name, Punctuation, Name.Attribute)),
            (r"\buse\b(?=\s*\")", Keyword.Namespace),
            (rf"\b(def|pattern|stack)(\s+)({_NAME})", bygroups(Keyword.Declaration, Text.Whitespace, Name.Function)),
            (
                rf"\b({'|'.join(_NAMING)})([ \t]+)({_NAME})",
                bygroups(Keyword.Declaration, Text.Whitespace, Name.Variable),
            ),
            (rf"\b(tokens|queries|keys)([ \t]+)({_NOT_AFTER}{_NAME})", bygroups(Keyword, Text.Whitespace, Name)),
            (
                rf"\b(order)([ \t]+)({_NAME})([ \t]+)(auto)\b",
                bygroups(Keyword, Text.Whitespace, Name, Text.Whitespace, Keyword),
            ),
            (r"\b(order)([ \t]+)(auto|by)\b", bygroups(Keyword, Text.Whitespace, Keyword)),
            (rf"\b({_PLAIN})\b{_AFTER}", Keyword),
            (words(("True", "False"), suffix=r"\b"), Keyword.Constant),
            (words(sorted(RESERVED_WORDS - {"True", "False"}), suffix=r"\b"), Operator.Word),
            (
                r"(:)(\s*)(int|float|bool|sparse|axis|axes|tuple)\b",
                bygroups(Punctuation, Text.Whitespace, Keyword.Type),
            ),
            (r"\b(q|k|s|v|inf|head|heads|key_head|key_heads|dim|batch|all)\b(?!\s*\()", Name.Builtin.Pseudo),
            (rf"{_NAME}(?=\s*\()", Name.Function),
            (_NAME, Name),
            (r"->|\+\+|\.\.|\*\*|//|==|!=|<=|>=|[-+*/%<>=]", Operator),
            (r"[()\[\]{},:.]", Punctuation),
        ],
        "string": [(r'[^"\\\n]+', String), (r"\\.", String.Escape), (r'"|$', String, "#pop")],
    }
