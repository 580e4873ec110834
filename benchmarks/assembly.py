"""Assembly to counts of its innermost loops over tiles: instructions, their kinds, compares and selects."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

LABEL = re.compile(r"^(\$L__BB\w+|\.LBB\w+|\.L_x_\w+):")
BRANCH = re.compile(
    r"\b(?:bra(?:\.uni)?|s_c?branch\w*|BRA[.\w]*)\s+(?:!?U?P\w+, *)?(?:`\()?(\$L__BB\w+|\.LBB\w+|\.L_x_\w+)"
)
END = re.compile(r"^\s+(?:/\*[0-9a-f]+\*/\s+)?(?:EXIT|ret|s_endpgm)\b")
"""Where all threads end: nothing goes on to the next line."""
INSTRUCTION = re.compile(r"^\s+(?:/\*[0-9a-f]+\*/\s+)?[@\w]", re.MULTILINE)
MATRIX = re.compile(r"\b(wgmma\.mma_async|tcgen05\.mma|mma\.sync|v_mfma|HGMMA|UTCHMMA|HMMA)")
COMPARE = re.compile(r"\b(?:setp\.|v_cmp)")
SELECT = re.compile(r"\b(?:selp\.|v_cndmask)")
OPCODE = re.compile(r"^\s+(?:/\*[0-9a-f]+\*/\s+)?(?:@!?U?P\w+\s+)?([A-Za-z]\w*)", re.MULTILINE)
KINDS = {
    "products": re.compile(r"[HIQ]MMA|[HQI]GMMA|UTC[HQI]MMA|v_mfma"),
    "exponentials": re.compile(r"MUFU|v_(?:exp|log|rcp|rsq|sqrt)_"),
    "barriers": re.compile(r"U?BAR|WARP|\w*DEPBAR|SYNCS|MEMBAR|FENCE|UTCBAR|ERRBAR|s_barrier|s_waitcnt"),
    "copies": re.compile(r"U?LD|U?ST|SHFL|UTMA|UBLK|ATOM|RED|buffer_|global_|flat_|ds_|s_load|s_buffer"),
    "floats": re.compile(r"[FHD](?:ADD|MUL|FMA|SET|SEL|MNMX|CHK)|F2|I2F|v_\w+_b?f(?:16|32|64)"),
    "integers": re.compile(
        r"U[A-Z]|I|V|LEA|LOP|SHF|SEL|PLOP|PRMT|MOV|[RPSC]2|CS2R|SGXT|BMSK|POPC|FLO|v_"
        r"|s_(?:add|sub|mul|lsh|ash|and|or|xor|not|cmp|csel|mov|bf|max|min|pack|cmov|mulk|addk)"
    ),
}
"""Kinds of instructions of machine code, by the beginning of their names; the first that fits. Integers are addresses
and moves between registers too. What fits none is `other`: branches above all."""


@dataclass(frozen=True)
class Loop:
    """The instruction counts of an innermost loop over tiles."""

    instructions: int
    matrix_instructions: int
    kinds: tuple[str, ...]
    """Names of the matrix instructions, sorted."""
    compares: int
    selects: int


def tile_loops(assembly: str) -> tuple[Loop, ...]:
    """The innermost loops with matrix instructions, of PTX, SASS or AMD GCN, in the order of the text."""
    return tuple(map(loop, loop_texts(assembly)))


def loop_texts(assembly: str) -> tuple[str, ...]:
    """The texts of these loops."""
    graph = blocks(assembly.splitlines())
    loops = sorted(sorted(each) for each in innermost(graph))
    return tuple("\n".join(graph.nodes[block]["text"] for block in each) for each in loops)


def kinds_of_loops(machine_code: str) -> list[dict[str, int]]:
    """How many instructions of each of the `KINDS`, and others, the `tile_loops` of SASS or AMD GCN have."""
    return [dict(Counter(map(kind_of, OPCODE.findall(body)))) for body in loop_texts(machine_code)]


def kind_of(opcode: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if pattern.match(opcode)), "other")


def loop(body: str) -> Loop:
    every, matrix = INSTRUCTION.findall(body), MATRIX.findall(body)
    kinds, compares, selects = tuple(sorted(set(matrix))), COMPARE.findall(body), SELECT.findall(body)
    return Loop(len(every), len(matrix), kinds, len(compares), len(selects))


def innermost(graph: nx.DiGraph) -> Iterator[frozenset[int]]:
    """The basic blocks of each loop with matrix instructions that has no inner loop with any."""
    for component in nx.strongly_connected_components(graph):
        inside = graph.subgraph(component)
        if not inside.edges or not any(MATRIX.search(graph.nodes[block]["text"]) for block in component):
            continue
        entered = [block for block in component if set(graph.predecessors(block)) - component]
        within = nx.DiGraph(inside)
        within.remove_edges_from([*within.in_edges(entered)])
        inner = list(innermost(within)) if entered else []
        yield from inner or [frozenset(component)]


def blocks(lines: list[str]) -> nx.DiGraph:
    """The control-flow graph of the basic blocks that are reached, by number; each has its `text`."""
    cuts = {0, len(lines)}
    cuts |= {number for number, line in enumerate(lines) if LABEL.match(line)}
    cuts |= {number + 1 for number, line in enumerate(lines) if BRANCH.search(line) or END.match(line)}
    graph = nx.DiGraph()
    graph.add_node(0, text="")
    labels: dict[str, int] = {}
    branches: list[tuple[int, str]] = []
    for number, (first, last) in enumerate(pairwise(sorted(cuts))):
        graph.add_node(number, text="\n".join(lines[first:last]))
        if label := LABEL.match(lines[first]):
            labels[label[1]] = number
        branch = BRANCH.search(lines[last - 1])
        if branch:
            branches.append((number, branch[1]))
        if last < len(lines) and not (branch and is_always(lines[last - 1])) and not END.match(lines[last - 1]):
            graph.add_edge(number, number + 1)
    graph.add_edges_from((number, labels[label]) for number, label in branches)
    graph.remove_nodes_from({*graph} - {0} - nx.descendants(graph, 0))  # labels for debuggers alone
    return graph


def is_always(line: str) -> bool:
    """Whether a branch is unconditional."""
    return not re.search(r"@!?%|@!?U?P|BRA[.\w]* +!?U?P|s_cbranch", line)
