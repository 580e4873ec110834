"""Random syntax trees with every form of the grammar, and random texts of its words, meaning aside."""

from hypothesis import strategies as st

from maskdsl.base.source import Source, Span
from maskdsl.base.text import FORBIDDEN
from maskdsl.syntax import tree
from maskdsl.syntax.mistakes import RESERVED_WORDS, SOFT_WORDS

NOWHERE = Span(Source("<made>", ""), 0, 0)
MARKS = [*"()[]{},:=.+-*/%<>", "..", "//", "**", "->", "++", "==", "!=", "<=", ">="]

words = st.one_of(
    st.sampled_from(["q", "k", "i", "x", "y", "all", "any", "sum", "head", "image", "_a1", "orx", "iffy"]),
    st.sampled_from(sorted(SOFT_WORDS)),
)
names = words.map(lambda word: tree.Name(word, span=NOWHERE))
integers = st.one_of(st.integers(0, 9), st.integers(0, 2**63 - 1)).map(lambda n: tree.Integer(n, span=NOWHERE))
floats = st.floats(min_value=0, allow_nan=False, allow_infinity=False).map(lambda x: tree.Float(abs(x), span=NOWHERE))
permitted = st.characters(codec="utf-8").filter(lambda each: not FORBIDDEN.match(each))
texts = st.text(permitted, max_size=8)
strings = texts.map(lambda text: tree.String(text, span=NOWHERE))


def tuples(element: st.SearchStrategy, smallest: int = 1, largest: int = 3) -> st.SearchStrategy:
    return st.lists(element, min_size=smallest, max_size=largest).map(tuple)


def made(node: type, *parts: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(lambda *drawn: node(*drawn, span=NOWHERE), *parts)


def comparisons(inner: st.SearchStrategy) -> st.SearchStrategy:
    operators = st.lists(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), min_size=1, max_size=3)
    return operators.flatmap(
        lambda drawn: made(tree.Comparison, tuples(inner, len(drawn) + 1, len(drawn) + 1), st.just(tuple(drawn)))
    )


def calls(inner: st.SearchStrategy) -> st.SearchStrategy:
    return made(tree.Call, names, tuples(made(tree.Argument, st.none() | names, inner), 0))


def extended(inner: st.SearchStrategy) -> st.SearchStrategy:
    binary = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "and", "or"])
    domain = inner | made(tree.HalfOpenRange, inner, inner)
    return st.one_of(
        made(tree.Binary, binary, inner, inner),
        made(tree.Unary, st.sampled_from(["-", "+", "not"]), inner),
        comparisons(inner),
        made(tree.Conditional, inner, inner, inner),
        made(tree.Where, inner, inner),
        made(tree.Tuple, tuples(inner)),
        calls(inner),
        made(tree.Index, names, tuples(inner)),
        made(tree.Quantifier, st.sampled_from(["any", "all", "sum"]), inner, names, domain),
    )


atoms = st.one_of(
    names,
    integers,
    floats,
    strings,
    st.booleans().map(lambda value: tree.Boolean(value, span=NOWHERE)),
    made(tree.Attribute, names, names),
    made(tree.Arrow, names, names),
)
expressions = st.recursive(atoms, extended, max_leaves=12)

lets = made(tree.LetStatement, names, expressions)
plain_statements = st.one_of(
    made(tree.SpaceStatement, names, tuples(made(tree.AxisDeclaration, st.none() | names, expressions))),
    made(tree.PooledSpaceStatement, names, names, names, st.none(), expressions),
    made(tree.PooledSpaceStatement, names, names, names, expressions, st.none() | expressions),
    made(tree.SequenceStatement, st.sampled_from(["tokens", "queries", "keys"]), tuples(names)),
    made(tree.InputStatement, names, names, tuples(expressions)),
    made(tree.CoordinateStatement, st.none() | names, names, expressions),
    lets,
    made(tree.RouteStatement, names, calls(expressions), st.none() | expressions, st.none() | expressions),
    *(
        made(node, expressions)
        for node in (
            tree.AttendStatement,
            tree.RequireStatement,
            tree.ScoreStatement,
            tree.ScaleStatement,
            tree.WeightStatement,
            tree.SinkStatement,
            tree.ValueStatement,
        )
    ),
    made(tree.NormalizeStatement, words, st.none() | words),
    made(tree.OrderStatement, st.none() | names, tuples(expressions)),
    made(tree.AutoOrderStatement, st.none() | names),
    made(tree.AssertStatement, expressions, strings),
)
bodies = tuples(plain_statements, 0, 3)
branches = st.one_of(
    made(tree.BranchStatement, names, st.none(), st.none(), bodies),
    made(tree.BranchStatement, names, names, expressions | made(tree.HalfOpenRange, expressions, expressions), bodies),
)
statements = plain_statements | branches

parameters = tuples(made(tree.Parameter, names, st.none() | names, st.none() | expressions), 0)
doc_lines = st.text(permitted.filter(lambda each: not each.isspace()), min_size=1, max_size=9)
docs = st.lists(doc_lines | st.sampled_from(["Two words", "  in"]), max_size=3).map("\n".join) | st.just("a\n\n b")
declarations = st.one_of(
    made(tree.UseDeclaration, strings),
    made(tree.MacroDeclaration, names, parameters, tuples(lets, 0, 2), expressions, docs),
    made(tree.PatternDeclaration, names, parameters, tuples(statements, 0, 4), docs),
    made(tree.StackDeclaration, names, parameters, expressions, docs),
)
files = made(tree.File, tuples(declarations, 0, 3))

soup = st.lists(
    st.one_of(
        st.sampled_from([*MARKS, *RESERVED_WORDS, *SOFT_WORDS]),
        words,
        st.sampled_from(
            ["0", "1_0", "2.5", "1.", ".5", "2x", '"s"', '"', "&&", "#c", "##d", "\n", "\r\n", "\r", "é", "=="]
        ),
        st.text(max_size=3),
    ),
    max_size=60,
)
texts_of_words = st.builds(lambda parts, glue: glue.join(parts), soup, st.sampled_from([" ", "", "\n"]))
