"""The scores of a mask in C: `codegen/native.c` with its holes filled, where they are more than a cap and a bias.

Only numbers and fixed words are printed, no name and no text of a pattern. Numbers that patterns choose are arguments
of a call, so that masks which differ in them alone have one text.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache

from maskdsl.base.records import dataclass
from maskdsl.emit.native_printer import NativePrinter
from maskdsl.emit.skeleton import fill, read_c, words_of
from maskdsl.ir.expressions import Expression, Read, Score, walk
from maskdsl.ir.ops import Type
from maskdsl.ir.rewrites.derive import derivative
from maskdsl.ir.rewrites.score_terms import ScoreTerms, TermKind

_Holes = dict[str, list[str] | None]
_HOLES = ("terms", "scores", "online", "sums", "gradients")
"""The holes of `codegen/native.c`, but for that of weights, which lies in one of them."""
_PAIR = "w, at, j, i"
"""The arguments that name a query and the keys of a panel."""
_PROBABILITY = [
    "const vec p = x;",
    "const ints counts = (splat_int(word_of(at, j, w->queries[i])) & LANE_BITS) != 0;",
]
"""Where scores are probabilities."""


@dataclass(frozen=True)
class NativeText:
    """A text in C, and the numbers that calls of its functions pass."""

    text: str
    numbers: tuple[float, ...] = ()


@cache
def plain_native() -> NativeText:
    """The text for scores that are a cap and a bias at most."""
    return NativeText(_filled("native", dict.fromkeys(_HOLES), {"weight": []}))


@lru_cache(maxsize=128)
def native_of_terms(terms: ScoreTerms) -> NativeText:
    """The text for other scores and weights."""
    numbers: dict[float, int] = {}
    score = _FunctionOfPairs(terms, terms.score, numbers)
    texts = [_filled("native_scores", {"score": score.lines})]
    weight = None if terms.weight is None else _FunctionOfPairs(terms, terms.weight, numbers)
    weighs: list[str] = []
    if weight is not None:
        texts.append(_filled("native_weights", {"weight": weight.lines}))
        weighs = [f"*here = weighted({_PAIR if not terms.normalizes else 'w, at, j, first + i'}, *here);"]
    gradients = _filled("native_gradients", _gradient_holes(terms, score, weight))
    called = _called("\n".join([*texts, gradients]))
    online = None if terms.normalizes else _filled("native_unnormalized", {"weight": weighs}).splitlines()
    holes: _Holes = {
        "terms": _sizes(terms),
        "scores": "\n\n".join(each.strip("\n") for each in (*called, *texts)).splitlines(),
        "online": online,
        "sums": None if terms.normalizes else ["const vec l = splat(1), m = {};"],
        "gradients": gradients.splitlines(),
    }
    return NativeText(_filled("native", holes, {"weight": weighs} if terms.normalizes else {}), tuple(numbers))


def _filled(name: str, *holes: Mapping[str, list[str] | None]) -> str:
    """A text of `codegen` with holes filled, and then those that were in the code that others kept."""
    text = read_c(name)
    for each in holes:
        text = fill(text, each)
    return text


def _sizes(terms: ScoreTerms) -> list[str]:
    counts = [f"{kind.upper()}_TERMS = {len(terms.of(kind))}" for kind in TermKind]
    absent = "-INFINITY" if terms.normalizes else "0.0f"
    return [f"enum {{ {', '.join(counts)}, DERIVATIVES = {1 + len(terms.leaves)} }};", f"#define ABSENT {absent}"]


class _FunctionOfPairs:
    """A function of the product and of terms: its value, and its derivatives in `derivatives`."""

    def __init__(self, terms: ScoreTerms, expression: Expression, numbers: dict[float, int]) -> None:
        read = {node for node in walk(expression) if isinstance(node, Read)}
        leaves = {n: each for n, each in enumerate(terms.leaves, 1) if each in read}
        floats = {n: each for n, each in leaves.items() if each.type is Type.FLOAT}
        derivatives = {0: derivative(expression, Score())}
        derivatives |= {n: derivative(expression, each) for n, each in floats.items()}
        self.derivatives = {n: each for n, each in derivatives.items() if each is not None}
        """The derivatives by the product, which is number 0, and by terms, from 1 on."""
        names = {each: each.input.replace(" ", "_") for each in leaves.values()}
        printer = NativePrinter(names, numbers)
        for each, name in names.items():
            kind, number = each.input.split()
            text = f"{name} = {kind}_term({_PAIR}, {number})"
            printer.lines.append(f"const vec {text};" if each.type is Type.FLOAT else f"const ints {text} != 0.0f;")
        results = [(f"derivatives[{n}] = ", each) for n, each in self.derivatives.items()]
        printer.results([*results, ("return ", expression)])
        self.lines = printer.lines


def _gradient_holes(terms: ScoreTerms, score: _FunctionOfPairs, weight: _FunctionOfPairs | None) -> _Holes:
    """The holes of `codegen/native_gradients.c`."""
    weighs = None if weight is None else _weighing(terms)
    gradient = "p * (of_probability - t->delta[i])" if terms.normalizes else "of_probability"
    lines = []
    for n, leaf in enumerate(terms.leaves, 1):
        summands = [f"choose(counts, grad * derivatives[{n}], (vec){{}})"] if n in score.derivatives else []
        if weight is not None and n in weight.derivatives:
            summands.append(f"choose(p != 0.0f, of_weight * shares[{n}], (vec){{}})")
        if summands:
            kind, number = leaf.input.split()
            lines.append(f"add_to_{kind}_term({_PAIR}, {number}, {' + '.join(summands)});")
    return {
        "probability": None if terms.normalizes else _PROBABILITY,
        "weight": weighs,
        "gradient": [f"const vec grad = {gradient};"],
        "product": [
            "*ds = choose(counts, grad * derivatives[0], (vec){});" if 0 in score.derivatives else "*ds = (vec){};"
        ],
        "terms": lines,
    }


def _weighing(terms: ScoreTerms) -> list[str]:
    """The lines from a probability and the gradient of its product with a weight to the gradients of both."""
    counted = "p != 0.0f" if terms.normalizes else "(p != 0.0f) | (full - full == 0.0f)"
    return [
        "vec shares[DERIVATIVES];",
        f"const vec full = weight_of({_PAIR}, shares), weight = choose({counted}, full, (vec){{}});",
        "const vec of_weight = p * *ds, of_probability = *ds * weight;",
        "*s = p * weight;",
    ]


def _called(text: str) -> list[str]:
    """The functions of `codegen/native_functions.c` that a text calls, in their order."""
    _, *functions = read_c("native_functions").strip().split("\n\n")
    called = list[str]()
    for each in reversed(functions):
        name = re.search(r"^INLINE \w+ (\w+)\(", each, re.MULTILINE)
        assert name is not None, each
        if name[1] in words_of("\n".join([*called, text])):
            called.insert(0, each)
    return called
