"""Random patterns with routes, as texts."""

from hypothesis import strategies as st

POOLS = ("mean", "max", "sum", "root")
QUERIES = (
    "q",
    *(f"{kind}(q by chunk)" for kind in POOLS),
    "mean(q by chunk, heads = head // 2)",
    "sum(q by i, heads = key_head)",
)
KEYS = (
    "k",
    *(f"{kind}(k by chunk)" for kind in POOLS),
    "max(k by chunk, heads = head // 2)",
    "mean(k where i % 3 == 1 by chunk)",
    "mean(k by document)",
)


@st.composite
def routes(draw: st.DrawFn) -> str:
    """A pattern of some tokens in chunks and documents, with one or two routes."""
    block = draw(st.integers(1, 9))
    lines = ["space tokens[n]", "input document: int[batch, tokens]", f"coord chunk = i // {block}"]
    lines += ["input gate: float[heads, n, n]", "input budget: int[heads]"]
    names = []
    for name in ("past", "second")[: draw(st.integers(1, 2))]:
        query, key = draw(st.sampled_from(QUERIES)), draw(st.sampled_from(KEYS))
        score = f"dot({query}, {key})"
        score = draw(
            st.sampled_from([score, score, f"0.5 * {score} + 1", f"tanh({score})", f"{score} + dot({query}, {key})"])
        )
        if "chunk" in key and "chunk" in query:
            score = draw(st.sampled_from([score, f"{score} + gate[head, q.chunk, k.chunk]"]))
        count = draw(st.sampled_from(["1", "2", "3", "budget[head]", "0"]))
        selector = draw(
            st.sampled_from(
                [f"topk({count}, {score})"] * 3
                + [f"topp(0.4, {score})", f"topp(0.3, {score}, per = head)", f"above(0.25, {score})"]
            )
        )
        both = "chunk" in key and ("chunk" in query or "i" in query or query == "q")
        where = draw(st.sampled_from(["", " where k.chunk < q.chunk", " where k.chunk <= q.chunk and head != 1"]))
        always = draw(st.sampled_from(["", " always k.chunk == q.chunk", " always k.chunk % 2 == 1 and head != 0"]))
        lines.append(f"route {name} = {selector}{where + always if both else ''}")
        names.append(name)
    attend = draw(
        st.sampled_from(
            ["{0}", "{0} or causal and same(chunk)", "causal and {0}", "not {0}", "{0} if head == 0 else causal"]
        )
    )
    lines.append("attend " + attend.format(names[0]))
    lines += [f"attend {name} and k != 0" for name in names[1:]]
    order = draw(st.sampled_from(["", "order by shuffle(i, 3)", "order by document"]))
    text = "\n    ".join([*lines, order])
    return f"pattern p(n = 8) {{\n    {text}\n}}"
