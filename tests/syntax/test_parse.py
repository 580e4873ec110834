"""Text to tree: what each form becomes, where it stands, and that nothing but AttnError comes out of a bad text."""

import pytest

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse, parse_expression, parse_statement

HERE = parse_expression(Source("<test>", "x")).span


def expression(text: str) -> tree.Expression:
    return parse_expression(Source("<test>", text))


def shape(node: tree.Expression) -> str:
    """The tree with every operation in parentheses."""
    match node:
        case tree.Binary(operator, left, right):
            return f"({shape(left)} {operator} {shape(right)})"
        case tree.Unary(operator, operand):
            return f"({operator} {shape(operand)})"
        case tree.Comparison(operands, operators):
            rest = (f"{operator} {shape(operand)}" for operator, operand in zip(operators, operands[1:], strict=True))
            return f"({' '.join([shape(operands[0]), *rest])})"
        case tree.Conditional(then, condition, otherwise):
            return f"({shape(then)} if {shape(condition)} else {shape(otherwise)})"
        case tree.Where(relation, condition):
            return f"({shape(relation)} where {shape(condition)})"
        case _:
            return node.span.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a or b and c", "(a or (b and c))"),
        ("(a where b and c) or d", "((a where (b and c)) or d)"),
        ("d or a where b and c", "(d or (a where (b and c)))"),
        ("d if a where b else a where c", "(d if (a where b) else (a where c))"),
        ("(a where b) where c", "((a where b) where c)"),
        ("a and b where c", "((a and b) where c)"),
        ("not a and b", "((not a) and b)"),
        ("not a == b", "(not (a == b))"),
        ("a -> b where c == d", "(a -> b where (c == d))"),
        ("0 <= q - k < size", "(0 <= (q - k) < size)"),
        ("a - b - c", "((a - b) - c)"),
        ("a * b // c % d / e", "((((a * b) // c) % d) / e)"),
        ("-a ** -b ** c", "(- (a ** (- (b ** c))))"),
        ("2 * -a", "(2 * (- a))"),
        ("a if b else c if d else e", "(a if b else (c if d else e))"),
        ("a or b if c else d or e", "((a or b) if c else (d or e))"),
        ("(a if b else c) if d else e", "((a if b else c) if d else e)"),
        ("a + (b + c)", "(a + (b + c))"),
    ],
)
def test_precedence(text: str, expected: str) -> None:
    assert shape(expression(text)) == expected


def test_range_needs_no_spaces() -> None:
    match expression("any(q - k == 2 ** j for j in 0..20)"):
        case tree.Quantifier("any", _, tree.Name("j"), tree.HalfOpenRange(tree.Integer(0), tree.Integer(20))):
            pass
        case other:
            pytest.fail(f"parsed as {other}")


def test_all_is_a_name_and_a_quantifier() -> None:
    assert expression("all -> all") == tree.Arrow(tree.Name("all", span=HERE), tree.Name("all", span=HERE), span=HERE)
    assert isinstance(expression("all(a for a in all)"), tree.Quantifier)


def test_words_of_statements_are_names_elsewhere() -> None:
    text = """
    def let(order, tokens = 3, use: int = 4) = { let score = order  let let = score  space + let }
    pattern pattern(stack, def, keys = (1, 2)) {
        space tokens[queries = def]
        queries tokens
        keys tokens ++ input
        coord order = keys // score
        order tokens by keys, order
        order auto by auto
        order auto
        order auto auto
        attend attend where q.score < k.scale
        require weight(space = route) and assert
        score score + scale[route, coord]
        assert let, "message"
    }
    """
    file = parse(Source("<test>", text))
    assert [declaration.name.id for declaration in file.declarations if hasattr(declaration, "name")] == [
        "let",
        "pattern",
    ]
    pattern = file.declarations[1]
    assert isinstance(pattern, tree.PatternDeclaration)
    assert [type(statement).__name__ for statement in pattern.statements] == [
        "SpaceStatement",
        "SequenceStatement",
        "SequenceStatement",
        "CoordinateStatement",
        "OrderStatement",
        "OrderStatement",
        "AutoOrderStatement",
        "AutoOrderStatement",
        "AttendStatement",
        "RequireStatement",
        "ScoreStatement",
        "AssertStatement",
    ]


def test_statements() -> None:
    def statement(text: str) -> tree.Statement:
        return parse_statement(Source("<test>", text))

    match statement("route past = topk(3, dot(q, mean(k by chunk))) where k.chunk < q.chunk or q == k"):
        case tree.RouteStatement(tree.Name("past"), tree.Call(), tree.Binary("or")):
            pass
        case other:
            pytest.fail(f"parsed as {other}")
    match statement("space coarse = mean(image, (4, 4))"):
        case tree.PooledSpaceStatement(_, tree.Name("mean"), tree.Name("image"), None, tree.Tuple()):
            pass
        case other:
            pytest.fail(f"parsed as {other}")
    match statement("coord image.z = hilbert(y, x)"):
        case tree.CoordinateStatement(tree.Name("image"), tree.Name("z"), tree.Call()):
            pass
        case other:
            pytest.fail(f"parsed as {other}")
    match statement("order by y // 8, x"):
        case tree.OrderStatement(None, (tree.Binary(), tree.Name("x"))):
            pass
        case other:
            pytest.fail(f"parsed as {other}")


def test_greedy_let() -> None:
    """The one inherent conflict: the value of a `let` goes on as far as it can."""
    with pytest.raises(AttnError):
        parse(Source("<test>", "def f(x) = { let a = x (1) - a }"))
    match parse(Source("<test>", "def f(x) = { let a = (x) (1) - a }")).declarations[0]:
        case tree.MacroDeclaration(body=tree.Binary("-", tree.Integer(1), tree.Name("a"))):
            pass
        case other:
            pytest.fail(f"parsed as {other}")


def test_docs_and_comments() -> None:
    text = """# head
## One.
##
##   Two.
def f() = 1  ## trailing
## not attached

## attached
# in between
pattern p() { attend causal } # end"""
    file = parse(Source("<test>", text))
    macro, pattern = file.declarations
    assert isinstance(macro, tree.MacroDeclaration) and isinstance(pattern, tree.PatternDeclaration)
    assert macro.doc == "One.\n\n  Two."
    assert pattern.doc == ""
    assert [comment.text for comment in file.comments] == [
        "# head",
        "## trailing",
        "## not attached",
        "## attached",
        "# in between",
        "# end",
    ]


def test_hash_in_a_string_is_no_comment() -> None:
    file = parse(Source("<test>", 'pattern p() { assert a, "# \\"b\\" \\n" }'))
    assert file.comments == ()
    pattern = file.declarations[0]
    assert isinstance(pattern, tree.PatternDeclaration)
    assertion = pattern.statements[0]
    assert isinstance(assertion, tree.AssertStatement) and assertion.message.value == '# "b" \n'


def test_empty_file() -> None:
    file = parse(Source("<test>", " \n# only a comment\n"))
    assert file.declarations == () and len(file.comments) == 1 and (file.span.start, file.span.end) == (0, 19)
    with pytest.raises(AttnError):
        expression("")


def test_the_largest_integer() -> None:
    assert parse_expression(Source("<test>", str(2**63 - 1))).value == 2**63 - 1
    with pytest.raises(AttnError):
        parse_expression(Source("<test>", str(2**63)))
