"""Which reads leave their tables for pairs that attend, against a loop over all pairs that evaluates the text."""

from itertools import product
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.language.tables import ReadOutside
from maskdsl.ir.expressions import Read, walk
from tests.support.drawn import examples

# The language's expressions that these tests draw are Python's: a token is an integer, its position, with its axes.


class Token(int):
    y: int
    x: int


class Outside(Exception):
    pass


class Table:
    """A table of true values, all of which are known; it has bounds and nothing else."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __getitem__(self, index: int) -> bool:
        if not 0 <= index < self.size:
            raise Outside
        return True


def token(position: int, width: int) -> Token:
    made = Token(position)
    made.y, made.x = divmod(position, width)
    return made


def leaves(height: int, width: int, heads: int, relation: str, index: str, size: int) -> bool:
    """Whether some pair that attends reads outside, by looking at each."""
    for head, q, k in product(range(heads), range(height * width), range(height * width)):
        names = {"q": token(q, width), "k": token(k, width), "head": head, "t": Table(size), "u": Table(size)}
        functions = {"min": min, "max": max, "abs": abs, "clamp": lambda x, low, high: min(max(x, low), high)}
        try:
            if eval(relation, functions, names):
                eval(index, functions, names)
        except Outside:
            return True
    return False


COORDINATES = ("q", "k", "q.y", "k.y", "q.x", "k.x", "head")


@st.composite
def integers(draw: st.DrawFn, depth: int = 2) -> str:
    if depth == 0:
        return draw(st.sampled_from((*COORDINATES, "1", "3")))
    a, number = draw(integers(depth - 1)), draw(st.integers(1, 4))
    match draw(st.sampled_from(("-", "+", "min", "max", "constant", "if"))):
        case "constant":
            text = draw(st.sampled_from(("{} - {}", "{} * {}", "{} // {}", "{} % {}"))).format(a, number)
            return draw(st.sampled_from((f"({text})", f"abs({a})", f"clamp({a}, 0, {number})")))
        case "if":
            return f"({a} if {draw(comparisons())} else {draw(integers(depth - 1))})"
        case "min" | "max" as name:
            return f"{name}({a}, {draw(integers(depth - 1))})"
        case sign:
            return f"({a} {sign} {draw(integers(depth - 1))})"


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    a, b = draw(st.sampled_from(COORDINATES)), draw(st.sampled_from((*COORDINATES, "2")))
    return f"{a} {draw(st.sampled_from(('<', '<=', '==', '!=', '>', '>=')))} {b}"


@st.composite
def conditions(draw: st.DrawFn, depth: int = 1) -> str:
    match draw(st.sampled_from(("sums", "known") if depth == 0 else ("sums", "known", "and", "or", "not"))):
        case "sums":
            return f"{draw(integers(1))} {draw(st.sampled_from(('<', '<=', '==')))} {draw(integers(1))}"
        case "known":
            return draw(st.sampled_from(("k <= q", "0 <= q - k < 3", "q.y == k.y", "q.x // 2 == k.x // 2")))
        case "not":
            return f"not ({draw(conditions(depth - 1))})"
        case word:
            return f"(({draw(conditions(depth - 1))}) {word} ({draw(conditions(depth - 1))}))"


def bound(height: int, width: int, relation: str, score: str, size: int, heads: int = 1) -> maskdsl.Mask:
    text = f"""pattern p() {{
        space image[y = {height}, x = {width}]
        input t: float[{size}]
        input u: bool[{size}]
        attend {relation}
        score {score}
    }}"""
    return maskdsl.parse(text)["p"].bind(heads=heads)


def refused(*arguments: object, **named: object) -> bool:
    try:
        mask = bound(*arguments, **named)  # type: ignore[arg-type]
    except AttnError as error:
        assert all(isinstance(each, ReadOutside) for each in error.diagnostics)
        return True
    assert not any(isinstance(node, Read) and node.open for each in mask.ir.scores for node in walk(each))
    return False


SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 2))


SCORES = SHAPES, conditions(2), integers(3), conditions(1), st.integers(1, 9)
RELATIONS = SHAPES, conditions(1), integers(3), st.sampled_from(("and", "or")), st.integers(1, 9), st.booleans()


def check_scores(shape: tuple[int, int, int], relation: str, index: str, guard: str, size: int) -> None:
    """No pair that attends is missed, and no other one is taken for a fault."""
    height, width, heads = shape
    plain, guarded = f"t[{index}]", f"t[{index}] if {guard} else 0.0"
    for read in (plain, guarded):
        wrong = leaves(height, width, heads, relation, read, size)
        assert refused(height, width, relation, f"s + ({read})", size, heads=heads) == wrong, read


def check_relations(shape: tuple[int, int, int], rest: str, index: str, word: str, size: int, first: bool) -> None:
    """Where the rest decides, in front of a read or behind it, the read does not matter."""
    height, width, heads = shape
    asked = f"({rest}) {word} u[{index}]"
    written = f"u[{index}] {word} ({rest})" if first else asked
    assert refused(height, width, written, "s", size, heads=heads) == leaves(height, width, heads, asked, "0", size)


test_scores = settings(max_examples=examples(20))(given(*SCORES)(check_scores))
test_relations = settings(max_examples=examples(15))(given(*RELATIONS)(check_relations))
test_many_scores = pytest.mark.long(settings(max_examples=2000)(given(*SCORES)(check_scores)))
test_many_relations = pytest.mark.long(settings(max_examples=2000)(given(*RELATIONS)(check_relations)))


@pytest.mark.parametrize("curve", ["hilbert(y, x)", "shuffle(i, 3)", "morton(x, y)"])
def test_coordinates_without_a_closed_form(curve: str) -> None:
    def bind(reach: int) -> maskdsl.Mask:
        text = f"""pattern p(reach = 4) {{
            space image[y = 6, x = 5]
            coord z = {curve}
            input t: float[9]
            attend -reach <= q.z - k.z and q.z - k.z <= reach
            score s + t[q.z - k.z + 4]
        }}"""
        return maskdsl.parse(text)["p"].bind(reach=reach)

    bind(4)
    with pytest.raises(AttnError, match="the index is -1 to 9"):
        bind(5)


def test_the_pair_that_is_named_reads_there() -> None:
    with pytest.raises(AttnError) as raised:
        bound(4, 4, "k <= q and q - k < 9", "s + t[q - k]", 7)
    (found,) = raised.value.diagnostics
    assert isinstance(found, ReadOutside)
    query, key = (int(word) for word in found.where.split() if word.isdigit())
    assert 7 <= query - key == found.value < 9
    assert (found.low, found.high, found.last) == (0, 8, 6)


def test_what_inputs_decide_is_left_to_the_call() -> None:
    """Documents may be short enough: then nobody attends where the table ends."""
    text = """pattern p() {
        space tokens[64]
        input document: int[tokens]
        input t: float[8]
        attend causal and same(document)
        score s + t[q - k]
    }"""
    (score,) = maskdsl.parse(text)["p"].bind().ir.scores
    assert [node.open for node in walk(score) if isinstance(node, Read)] == [True]


def test_a_chain_of_coordinates_takes_no_time() -> None:
    """Each reads the one before twice: written out, the last would have a million terms."""
    chain = "\n".join(f"coord c{n} = c{n - 1} + c{n - 1} % 7" for n in range(1, 20))
    text = f"""pattern p() {{
        space tokens[64]
        input t: float[64]
        input own: int[tokens]
        coord c0 = i
        {chain}
        coord d0 = own
        {chain.replace("c", "d").replace("doord", "coord")}
        attend q.c19 <= 63 and q.d19 <= 63
        score s + t[q.c19] + t[q.d19 % 64]
    }}"""
    begin = perf_counter()
    maskdsl.parse(text)["p"].bind()
    assert perf_counter() - begin < 5


@pytest.mark.parametrize("relation", ["causal and backward(500)", "window(999)", "causal"])
def test_a_million_tokens(relation: str) -> None:
    """Bounds of closed patterns are found without looking at tokens."""
    text = f"""pattern p(n = 1048576) {{
        space tokens[n]
        input t: float[999]
        attend {relation}
        score s + t[q - k + 499]
    }}"""
    begin = perf_counter()
    if relation == "causal":
        with pytest.raises(AttnError, match="is 499 to 1049074"):
            maskdsl.parse(text)["p"].bind()
    else:
        maskdsl.parse(text)["p"].bind()
    assert perf_counter() - begin < 3


def test_the_first_index_behind_a_table() -> None:
    text = "pattern edge(n) { space tokens[n] input table: float[5] attend all -> all score s + table[k] }"
    pattern = maskdsl.parse(text)["edge"]
    pattern.bind(n=5)
    with pytest.raises(maskdsl.AttnError, match="E235"):
        pattern.bind(n=6)


def test_figures_ask_where_given_inputs_read() -> None:
    text = (
        "pattern p(n = 8) { space tokens[n]  input g: int[tokens]  input t: bool[4, 4]  attend causal and t[q.g, k.g] }"
    )
    module = maskdsl.parse(f"{text} stack s() = 2 * p()")
    mask, stack = module["p"].bind(), module.stack("s").bind()
    table = np.ones((4, 4), dtype=bool)
    for figure in (mask.tiles, mask.stats, mask.field, stack.stats, stack.field):
        figure(g=np.arange(8) % 4, t=table)
        with pytest.raises(maskdsl.AttnError, match="E483"):
            figure(g=np.arange(8), t=table)
    mask.tiles(g=np.where(np.arange(8) < 4, np.arange(8), 3), t=table)


@pytest.mark.parametrize("name", ["group", "tag"])
def test_a_coordinate_may_be_called_group(name: str) -> None:
    """As routes call the numbers of groups that no coordinate gives."""
    text = f"pattern p(n = 9) {{ space t[n] coord {name} = i % 4 input bias: float[3] attend bias[q.{name}] > 0.0 }}"
    with pytest.raises(AttnError, match="E235"):
        maskdsl.parse(text)["p"].bind()


def test_a_batch_may_have_more_entries_than_rows_have_elements() -> None:
    """The elements of a row are no index: only what a text writes in brackets is."""
    text = """pattern p(n = 3) {
        space t[n]
        input of_query: float[batch, t, 2]
        input of_key: float[t, 2]
        route best = topk(1, dot(of_query[batch, q], of_key[k]))
        attend best
    }"""
    of_query, of_key = np.ones((5, 3, 2)), np.arange(6.0).reshape(3, 2)
    mask = maskdsl.parse(text)["p"].bind()
    assert mask.tiles((1, 1), of_query=of_query, of_key=of_key).classes(batch=4).tolist() == [[0, 0, 2]] * 3
