"""Text to a tree, by recursive descent: nested tuples `(kind, ...)`, as `docs/language.md` describes the language."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Node = tuple[Any, ...]

TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\n]+|\#[^\r\n]*)
    |(?P<float>\d[\d_]*\.\d[\d_]*(?:[eE][+-]?\d+)?|\d[\d_]*[eE][+-]?\d+)
    |(?P<int>\d[\d_]*)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<mark>\*\*|//|\.\.|->|\+\+|==|!=|<=|>=|[-+*/%<>=(){}\[\],.:])""",
    re.VERBOSE,
)
RESERVED = {"or", "and", "not", "if", "else", "where", "for", "in", "by", "True", "False"}


@dataclass(frozen=True)
class Macro:
    parameters: tuple[tuple[str, str | None, Node | None], ...]
    """Name, type and default."""
    lets: tuple[tuple[str, Node], ...]
    body: Node


@dataclass(frozen=True)
class Pattern:
    name: str
    parameters: tuple[tuple[str, str | None, Node | None], ...]
    statements: tuple[Node, ...]


@dataclass(frozen=True)
class Stack:
    parameters: tuple[tuple[str, str | None, Node | None], ...]
    layers: Node


@dataclass
class File:
    macros: dict[str, Macro] = field(default_factory=dict)
    patterns: dict[str, Pattern] = field(default_factory=dict)
    stacks: dict[str, Stack] = field(default_factory=dict)


class Reader:
    """Reads one text."""

    def __init__(self, text: str) -> None:
        self.words: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            found = TOKEN.match(text, position)
            assert found is not None, text[position : position + 20]
            if found.lastgroup != "skip":
                self.words.append((str(found.lastgroup), found.group()))
            position = found.end()
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        position = self.at + ahead
        return self.words[position][1] if position < len(self.words) else ""

    def kind(self, ahead: int = 0) -> str:
        position = self.at + ahead
        return self.words[position][0] if position < len(self.words) else "end"

    def take(self, *allowed: str) -> str:
        word = self.peek()
        assert not allowed or word in allowed, (word, allowed, self.words[self.at - 5 : self.at + 5])
        self.at += 1
        return word

    def accept(self, *allowed: str) -> str | None:
        return self.take() if self.kind() != "string" and self.peek() in allowed else None

    def name(self) -> str:
        assert self.kind() == "name" and self.peek() not in RESERVED, self.words[self.at - 3 : self.at + 3]
        return self.take()

    # Declarations

    def file(self, files: Mapping[str, str]) -> File:
        found = File()
        while self.at < len(self.words):
            match self.take():
                case "use":
                    used = read(files[self.take()[1:-1]], files)
                    found.macros |= used.macros
                    found.patterns |= used.patterns
                    found.stacks |= used.stacks
                case "def":
                    name = self.name()
                    found.macros[name] = self.macro()
                case "pattern":
                    pattern = self.pattern()
                    found.patterns[pattern.name] = pattern
                case "stack":
                    name, parameters = self.name(), self.parameters()
                    self.take("=")
                    found.stacks[name] = Stack(parameters, self.expression())
                case other:
                    raise AssertionError(other)
        return found

    def parameters(self) -> tuple[tuple[str, str | None, Node | None], ...]:
        found: list[tuple[str, str | None, Node | None]] = []
        self.take("(")
        while not self.accept(")"):
            name = self.name()
            kind = self.name() if self.accept(":") else None
            found.append((name, kind, self.expression() if self.accept("=") else None))
            self.accept(",")
        return tuple(found)

    def macro(self) -> Macro:
        parameters = self.parameters()
        self.take("=")
        lets: list[tuple[str, Node]] = []
        if not self.accept("{"):
            return Macro(parameters, (), self.expression())
        while self.accept("let"):
            name = self.name()
            self.take("=")
            lets.append((name, self.expression()))
        body = self.expression()
        self.take("}")
        return Macro(parameters, tuple(lets), body)

    def pattern(self) -> Pattern:
        name, parameters = self.name(), self.parameters()
        self.take("{")
        statements: list[Node] = []
        while not self.accept("}"):
            statements.append(self.statement())
        return Pattern(name, parameters, tuple(statements))

    def statement(self) -> Node:
        match self.take():
            case "space":
                name = self.name()
                if self.accept("="):
                    kind = self.name()
                    self.take("(")
                    source = self.name()
                    if self.accept("by"):
                        by, count = self.name(), None
                        if self.accept(",") and self.peek(0) != ")":
                            count = self.expression()
                            self.accept(",")
                        self.take(")")
                        return "grouped", name, kind, source, by, count
                    self.take(",")
                    box = self.expression()
                    self.accept(",")
                    self.take(")")
                    return "pooled", name, kind, source, box
                self.take("[")
                axes: list[tuple[str, Node]] = []
                while not self.accept("]"):
                    named = self.kind() == "name" and self.peek(1) == "="
                    axis = self.name() if named else name
                    if named:
                        self.take("=")
                    axes.append((axis, self.expression()))
                    self.accept(",")
                return "space", name, tuple(axes)
            case "tokens" | "queries" | "keys" as which:
                names = [self.name()]
                while self.accept("++"):
                    names.append(self.name())
                return "sequence", which, tuple(names)
            case "input":
                name = self.name()
                self.take(":")
                kind = self.name()
                return "input", name, kind, self.list_until("]") if self.accept("[") else ()
            case "coord":
                name = self.name()
                space = None
                if self.accept("."):
                    space, name = name, self.name()
                self.take("=")
                return "coord", space, name, self.expression()
            case "let":
                name = self.name()
                self.take("=")
                return "let", name, self.expression()
            case "attend" | "require" | "score" | "scale" | "weight" | "sink" | "value" as which:
                return which, self.expression()
            case "normalize":
                return "normalize", self.name(), self.name() if self.accept("by") else None
            case "route":
                name = self.name()
                self.take("=")
                selector = self.call(self.name_of_call())
                where = self.expression() if self.accept("where") else None
                return "route", name, selector, where, self.expression() if self.accept("always") else None
            case "branch":
                name = self.name()
                variable, domain = None, None
                if self.accept("for"):
                    variable = self.name()
                    self.take("in")
                    low = self.expression()
                    self.take("..")
                    domain = low, self.expression()
                self.take("{")
                lines: list[Node] = []
                while not self.accept("}"):
                    lines.append(self.statement())
                return "branch", name, variable, domain, tuple(lines)
            case "order":
                space = None if self.peek() == "by" or self.at_auto() else self.name()
                if self.take("by", "auto") == "auto":
                    return "auto", space
                keys = [self.expression()]
                while self.accept(","):
                    keys.append(self.expression())
                return "order", space, tuple(keys)
            case "assert":
                condition = self.expression()
                self.take(",")
                return "assert", condition, self.take()
            case other:
                raise AssertionError(other)

    def name_of_call(self) -> str:
        name = self.name()
        self.take("(")
        return name

    def at_auto(self) -> bool:
        """`order auto`, not the order of a space of that name."""
        return self.peek() == "auto" and self.peek(1) not in ("by", "auto")

    def list_until(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self.accept(end):
            found.append(self.expression())
            self.accept(",")
        return tuple(found)

    # Expressions, from the loosest to the tightest

    def expression(self) -> Node:
        first = self.disjunction()
        if not self.accept("if"):
            return first
        condition = self.disjunction()
        self.take("else")
        return "if", condition, first, self.expression()

    def disjunction(self) -> Node:
        found = self.restriction()
        while self.accept("or"):
            found = "or", found, self.restriction()
        return found

    def restriction(self) -> Node:
        found = self.conjunction()
        while self.accept("where"):
            found = "and", found, self.conjunction()
        return found

    def conjunction(self) -> Node:
        found = self.negation()
        while self.accept("and"):
            found = "and", found, self.negation()
        return found

    def negation(self) -> Node:
        return ("not", self.negation()) if self.accept("not") else self.comparison()

    def comparison(self) -> Node:
        parts: list[Any] = [self.operand()]
        while (mark := self.accept("==", "!=", "<=", ">=", "<", ">")) is not None:
            parts += [mark, self.operand()]
        return parts[0] if len(parts) == 1 else ("compare", *parts)

    def operand(self) -> Node:
        if self.kind() == "name" and self.peek(1) == "->":
            first = self.name()
            self.take("->")
            return "arrow", first, self.name()
        return self.sum()

    def sum(self) -> Node:
        found = self.product()
        while (mark := self.accept("+", "-")) is not None:
            found = mark, found, self.product()
        return found

    def product(self) -> Node:
        found = self.signed()
        while (mark := self.accept("*", "/", "//", "%")) is not None:
            found = mark, found, self.signed()
        return found

    def signed(self) -> Node:
        if self.accept("-"):
            return "negative", self.signed()
        if self.accept("+"):
            return self.signed()
        base = self.atom()
        return ("**", base, self.signed()) if self.accept("**") else base

    def atom(self) -> Node:
        kind = self.kind()
        if kind == "int":
            return "number", int(self.take())
        if kind == "float":
            return "number", float(self.take())
        if kind == "string":
            return "string", self.take()
        if self.accept("True"):
            return "number", True
        if self.accept("False"):
            return "number", False
        if self.accept("("):
            parts = [self.expression()]
            if not self.accept(","):
                self.take(")")
                return parts[0]
            parts += self.list_until(")")
            return "tuple", *parts
        name = self.name()
        if self.accept("."):
            return "attribute", name, self.name()
        if self.accept("["):
            return "index", name, *self.list_until("]")
        if self.accept("("):
            return self.call(name)
        return "name", name

    def call(self, name: str) -> Node:
        arguments: list[tuple[str | None, Node]] = []
        while not self.accept(")"):
            named = self.kind() == "name" and self.peek(1) == "="
            key = self.name() if named else None
            if named:
                self.take("=")
            value = self.expression()
            if self.accept("for"):
                helper = self.name()
                self.take("in")
                first = self.expression()
                domain: Node = ("range", first, self.expression()) if self.accept("..") else first
                self.take(")")
                return "each", name, value, helper, domain
            arguments.append((key, value))
            if self.accept("by"):
                arguments.append(("by", self.expression()))
            self.accept(",")
        return "call", name, tuple(arguments)


def read(text: str, files: Mapping[str, str] | None = None) -> File:
    """What a text declares; `files` has those that it uses, by the names it calls them."""
    return Reader(text).file(files or {})
