"""Broken and hostile texts: real ones with characters, words and subtrees changed, and ones grown deep, wide and huge.

A seed is a text: nothing else is drawn from. No text is longer than is asked for.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from random import Random

import maskdsl
from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse
from tests.independent.drawing import draw

ROOT = Path(__file__).parents[2]
WORD = re.compile(r'"[^"\n]*"|\w+|\*\*|//|\.\.|->|\+\+|[<>=!]=|[^\w\s]|\s+')
KEYWORDS = sorted(set(re.findall(r'"([A-Za-z]+)"', (ROOT / "grammar/attn.lark").read_text())))
MARKS = ["(", ")", "[", "]", "{", "}", ",", ".", "..", "->", "++", ":", "=", '"', "+", "-", "*", "/", "//", "%", "**"]
MARKS += ["==", "!=", "<", "<=", ">", ">=", "##", "#", ";", "&", "\\", "'", "?", "@", "$", "!", "~", "^", "|"]
BUILT_IN = [
    "q",
    "k",
    "i",
    "s",
    "head",
    "heads",
    "key_head",
    "key_heads",
    "dim",
    "batch",
    "all",
    "any",
    "sum",
    "same",
    "causal",
    "window",
    "rank",
]
BUILT_IN += ["topk", "topp", "dot", "mean", "max", "hilbert", "random", "shuffle", "int", "float", "bool", "axes"]
NUMBERS = ["0", "1", "2", "3", "7", "64", "127", "4096", "65537", "2147483647", "2147483648", "4294967297"]
NUMBERS += ["(-1)", "(-2)", "(-2147483648)", "9223372036854775807", "9223372036854775808", "1" + "0" * 400, "007"]
NUMBERS += ["0.0", "0.5", "(-0.75)", "1e308", "1e-320", "1e400", "3.4e38", "1_000", "1__0", "1.", ".5", "0x10", "1e"]
CHARACTERS = [chr(each) for each in (*range(128), 0x85, 0xA0, 0xAD, 0xE9, 0xDF, 0x301, 0x5D0, 0x65E5, 0x1D45B, 0x2212)]
CHARACTERS += [chr(each) for each in (0x200B, 0x200D, 0x201C, 0x2028, 0x202E, 0x2066, 0xD800, 0xDFFF, 0xFEFF, 0xFFFE)]
CHARACTERS += [chr(each) for each in (0xE0001, 0x10FFFF)]
HOSTILE = ["{x}", '"""', "'''", "\\", "\\n", '\\"', "\\N{DASH}", "#", "# end", "# hole: predicate", "</script>", "<!--"]
HOSTILE += ["%s", "$x", "`", "```", "import os", "; import os", "@triton.jit", "*/", "]]>", "{", "}", "\\x00", " ", "é"]
MARKER = "MARKER_"
"""What is planted where text of a file is only ever told: in comments, docs and messages."""


@cache
def bases() -> tuple[str, ...]:
    paths = [*sorted((ROOT / "examples").rglob("*.attn")), ROOT / "grammar/std.attn"]
    return tuple(path.read_text() for path in paths)


def hostile(seed: int, most: int) -> str:
    """The text of a seed, of at most `most` characters."""
    random = Random(seed)
    text = random.choice(bases()) if random.random() < 0.5 else draw(seed).text
    if random.random() < 0.5:
        text = planted(random, text)
    kinds: list[Callable[[Random, str, int], str]] = [by_character, by_word, by_tree, grown]
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        text = random.choices(kinds, [1, 2, 6, 4])[0](random, text, most)[:most]
    return text


def some(random: Random, most: int) -> int:
    """Mostly few."""
    return int(2 ** random.uniform(0, most.bit_length()))


def planted(random: Random, text: str) -> str:
    """With hostile words above it, and in its comments and strings."""

    def words() -> str:
        own = [MARKER + str(random.randrange(10**6)), *random.choices(HOSTILE, k=random.randint(0, 4))]
        random.shuffle(own)
        return " ".join(own)

    text = re.sub(r'(?<=assert n > 0, ")[^"]*', lambda _: words().replace('"', ""), text)
    text = re.sub(r"(?m)^## .*", lambda found: f"{found[0]} {words()}", text)
    message = words().replace('"', "'").replace("\\", "")
    opened = re.sub(r"(?m)^pattern .*\{ *$", lambda found: f'{found[0]}\n    assert heads > 0, "{message}"', text)
    return f"## {words()}\n{opened}" if random.random() < 0.5 else opened


# By character and by word


def by_character(random: Random, text: str, most: int) -> str:
    for _ in range(some(random, 8)):
        at = random.randrange(len(text) + 1)
        end = at + random.choice([0, 0, 1, 1, 1, 2, 30])
        new = random.choice(["", text[at:end] * 2, *(random.choice(CHARACTERS) for _ in range(3))])
        text = text[:at] + new + text[end:]
    return text


def by_word(random: Random, text: str, most: int) -> str:
    words = WORD.findall(text)
    positions = [at for at, word in enumerate(words) if not word.isspace()]
    for _ in range(some(random, 8) if positions else 0):
        at, other = random.choice(positions), random.choice(positions)
        match random.randrange(8):
            case 0:
                words[at] = ""
            case 1:
                words[at], words[other] = words[other], words[at]
            case 2:
                words[at] = f"{words[at]} " * random.choice([2, 2, 3, 100])
            case 3:
                words[at] = random.choice(KEYWORDS + BUILT_IN)
            case 4:
                words[at] = random.choice(MARKS)
            case 5:
                words[at] = words[other]
            case _:
                numbers = [position for position in positions if words[position].isdecimal()]
                words[random.choice(numbers or positions)] = random.choice(NUMBERS)
    return "".join(words)


# By tree


def nodes(file: tree.File) -> Iterator[tuple[tree.Node, bool]]:
    """All nodes, and whether the grammar takes a name alone in their place."""
    pending: list[tuple[object, bool]] = [(file, False)]
    while pending:
        part, named = pending.pop()
        if isinstance(part, tuple):
            pending += ((each, named) for each in part)
        elif isinstance(part, tree.Node):
            yield part, named
            for each in fields(part):
                kind = str(each.type)
                pending.append((getattr(part, each.name), "Name" in kind and "Integer" not in kind))


@cache
def positions(text: str) -> tuple[tuple[int, int, str], ...]:
    """Where subtrees of a text stand, and what they are; none where it is no text of the language."""
    try:
        file = parse(Source("<text>", text))
    except maskdsl.AttnError:
        return ()
    found = []
    for node, named in nodes(file):
        if named:
            found.append((node.span.start, node.span.end, "name"))
        elif isinstance(node, tree.Expression) and not isinstance(node, tree.HalfOpenRange):
            found.append((node.span.start, node.span.end, "expression"))
        elif isinstance(node, tree.Statement):
            found.append((node.span.start, node.span.end, "statement"))
        elif isinstance(node, tree.Parameter):
            found.append((node.span.start, node.span.end, "parameter"))
    return tuple(sorted(found))


def by_tree(random: Random, text: str, most: int) -> str:
    """With subtrees in other places, of which most are of their kind."""
    for _ in range(some(random, 3)):
        found = positions(text)
        if not found:
            return text
        start, end, kind = random.choice(found)
        alike = [each for each in found if each[2] == kind] if random.random() < 0.95 else list(found)
        other = random.choice(alike)
        new = text[other[0] : other[1]]
        match kind, random.random():
            case "expression", chance if chance < 0.3:
                new = wrapped(random, text[start:end], new, 1)
            case "expression", chance if chance < 0.4:
                new = random.choice(NUMBERS + BUILT_IN)
            case "expression", _:
                new = f"({new})"
            case "statement", chance if chance < 0.3:
                new = f"{text[start:end]}\n    {new}"
            case "statement", chance if chance < 0.4:
                new = ""
        text = text[:start] + new + text[end:]
    return text


WRAPS = ["({})", "not ({})", "-({})", "abs({})", "({} if {} else {})", "({} + {})", "({} or {})", "({} and not {})"]
WRAPS += ["any({} for j in 0 .. 3)", "sum({} for j in 0 .. 2)", "({}) ** 2", "({}) // 2", "({}) % 3"]
WRAPS += [
    "({} where {})",
    "min({}, {})",
    "causal and ({})",
    "float({})",
    "exp({})",
    "same({})",
    "window({})",
    "sqrt({})",
]
WRAPS += ["({}, {})", "hilbert({}, {})", "random(1, {})", "shuffle({}, 3)", "clamp({}, 0, 9)", "table[{}]"]
WRAPS += ["ilog2({})", "share_bit({}, {})", "({} == {})", "({} - {})", "({} * {})", "({} / {})", "log({})", "tanh({})"]


def wrapped(random: Random, inner: str, other: str, depth: int) -> str:
    """Inside of operators and calls, one in another; it stands once in each, or in all places of a shallow one."""
    for _ in range(depth):
        first, *rest = random.choice(WRAPS).split("{}")
        fillers = [inner, *(inner if depth < 6 and random.random() < 0.3 else other for _ in rest[1:])]
        random.shuffle(fillers)
        inner = first + "".join(filler + part for filler, part in zip(fillers, rest, strict=True))
    return inner


# Deep, wide and huge


def grown(random: Random, text: str, most: int) -> str:
    found = positions(text)
    if random.random() < 0.5 and (expressions := [each for each in found if each[2] == "expression"]):
        start, end, _ = random.choice(expressions)
        return text[:start] + deep_or_wide(random, text[start:end], most) + text[end:]
    statements = [start for start, _, kind in found if kind == "statement"]
    if random.random() < 0.8 and statements:
        at = random.choice(statements)
        return text[:at] + many_statements(random, most) + text[at:]
    return many_declarations(random, text, most)


def deep_or_wide(random: Random, inner: str, most: int) -> str:
    count = some(random, max(1, most // (len(inner) + 6)))
    pair = random.choice([("(", ")"), ("not (", ")"), ("-", ""), ("abs(", ")"), ("(", ""), ("a[", "]"), ("f(", ")")])
    glue = random.choice(
        [" or ", " and ", " + ", " * ", " - ", ", ", " == ", " ** ", " where ", " if causal else ", "."]
    )
    link = f"({inner})" if random.random() < 0.7 else random.choice(["q", "k", "head", "1", "causal", "q - k"])
    match random.randrange(8):
        case 0 | 1:
            return pair[0] * count + inner + pair[1] * count
        case 2:
            return wrapped(random, inner, link, min(count, 120))
        case 3:
            return f"any(q + {inner} == j * k for j in 0 .. {random.choice([*NUMBERS, str(count)])})"
        case 4:
            return random.choice(["max", "min", "sum", "same", "mean", "random"]) + f"({', '.join([link] * count)})"
        case 5:
            own = [f"{link} {random.choice(['<', '==', '!=', '>='])} {number}" for number in range(min(count, 2000))]
            return "(" + random.choice([" or ", " and ", " + "]).join(own) + ")"
        case _:
            return "(" + glue.join([link] * count) + ")"


LINES = [
    *("space s{n}[4]", "space s{n}[a{n} = 2, b{n} = 3]", "coord c{n} = i + {n}", "coord c{n} = c{m} + c{m} % 7"),
    *("let l{n} = q - k < {n}", "let l{n} = l{m} or l{m}", "let l{n} = (l{m}, l{m})", "let l{n} = l{m} + l{m}"),
    *("input x{n}: int[tokens]", "input x{n}: float[heads, {n}]", "attend q == {n}", "attend q == {n} * k + {m}"),
    *("require q != {n}", "score s + {n}.0", "score s * 1.01 + 0.{n}", "weight 0.{n}", 'assert n > {n}, "no {n}"'),
    *("attend window({n})", "attend causal and blocks({n})", "attend unknown{n}", "attend same(x{n})", "scale 0.{n}"),
    *("route r{n} = topk({n}, dot(q, k))", "route r{n} = topk(1, dot(q, k)) where r{m}", "order by {n} * i % 7"),
    *(
        "attend dilated({n}) or powers",
        "coord c{n} = rank(c{m})",
        "coord c{n} = hilbert(c{m}, i)",
        "attend l{m} or l{m}",
    ),
    *("space s{n} = mean(s{m}, 2)", "tokens s{n} ++ s{m}", "attend random(1, q, k) % {n} == 0", "attend c{m} == {n}"),
    *("coord c{n} = shuffle(c{m}, {n})", "attend any(q - k == 2 ** j + {n} for j in 0 .. 20)"),
    *("attend l{m} or l{m}", "score s + float(c{m})", "order by c{n}", "let l{n} = any(l{m} for j in 0 .. 3)"),
]


def many_statements(random: Random, most: int) -> str:
    """One or two kinds of line again and again, each after the one that it may read."""
    kinds = random.sample(LINES, random.choice([1, 1, 2, 3]))
    count = some(random, most // 40)
    return "".join(f"{random.choice(kinds).format(n=n, m=max(0, n - 1))}\n    " for n in range(count))


def many_declarations(random: Random, text: str, most: int) -> str:
    count = some(random, most // 60)
    numbers = range(1, count + 1)
    names = ", ".join(f"p{n} = {random.choice(NUMBERS)}" for n in numbers)
    match random.randrange(9):
        case 0:
            own = "def m0(x) = x + 1\n" + "".join(f"def m{n}(x) = m{n - 1}(m{n - 1}(x))\n" for n in numbers)
            return f"{own}pattern deep() {{ space t[8] attend m{count}(q) == k }}\n{text}"
        case 1:
            return f"pattern wide({names}) {{ space t[8] attend q == k }}\n{text}"
        case 2:
            return text + "".join(f"pattern z{n}(n = {n}) {{ space t[n] attend causal }}\n" for n in numbers)
        case 3:
            layers = " + ".join(["a(n)"] * count)
            return f"pattern a(n) {{ space t[n] attend causal }}\nstack deep(n = 8) = {layers}\n{text}"
        case 4:
            return f"stack s() = ({' + '.join(['deep', *['s'] * count])}) * {random.choice(NUMBERS)}\n{text}"
        case 5:
            return "# " + "x" * random.randrange(most) + "\n" + text
        case 6:
            name = "n" * random.randrange(1, most)
            return re.sub(rf"\b{random.choice(['n', 'size', 'q', 'text'])}\b", name, text)
        case 7:
            return text + text * min(count, most // (len(text) + 1))
        case _:
            return (
                random.choice([" ", "\n", "\r", "\t", "#\n", "## a\n", "(", '"', "\\", ",", "a ", "use "]) * count
                + text
            )
