"""Plan to a torch module that computes the products of vectors that a pattern's scores read, before attention."""

from collections.abc import Iterable
from typing import assert_never

from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan, unused
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.statement_printer import COMPARISON
from maskdsl.emit.torch.pattern_functions import coordinate_calls, coordinate_function, pair_parameters, with_helpers
from maskdsl.emit.torch.torch_printer import TorchPrinter
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import OPERATORS, Op
from maskdsl.ir.values.token_vectors import (
    Elementwise,
    Multiple,
    OfGroup,
    OfToken,
    OfValue,
    Sum,
    TableRow,
    Vector,
    VectorProduct,
    Window,
    vector_expressions,
    vector_leaves,
)


def emit_products(plan: KernelPlan) -> str:
    """The text of a module with `find(q, k, positions, inputs)`, which `codegen/products.py` documents."""
    writer = _ProductWriter(plan)
    functions = [*writer.coordinate_functions(), writer.function()]
    return fill(
        read_skeleton("products"),
        {
            "header": header(plan, "products", "The products of vectors that scores read, in plain torch."),
            "pattern": [*with_helpers(functions), "", ""],
            "coordinates": coordinate_calls(plan),
        },
    )


class _ProductWriter:
    """Collects the statements of the function that computes all products."""

    def __init__(self, plan: KernelPlan) -> None:
        self.plan = plan
        self.known: dict[Vector, str] = {}
        mask = plan.mask
        self.expressions = tuple(each for vector in mask.vectors for each in vector_expressions(vector))
        self.tables = {each.input for each in mask.rows}
        self.printer = TorchPrinter(
            coordinates=lambda side, name: f"{side.letter}_{plan.identifiers[name]}",
            inputs=plan.input_identifiers,
            sequences=mask.sequences,
            relation=True,
            taken=["q", "k", "v", "dtype", "key_heads", "tables", *self.parameters],
        )

    @property
    def parameters(self) -> list[str]:
        """What the function reads, by keyword."""
        identifiers = self.plan.input_identifiers
        named = pair_parameters(self.plan, self.expressions)
        return list(dict.fromkeys([*named, *(identifiers[each.name] for each in self.plan.mask.named(self.tables))]))

    def coordinate_functions(self) -> list[list[str]]:
        """The lines of the functions that compute the coordinates that vectors read."""
        mask, read = self.plan.mask, reads(*self.expressions)
        functions = []
        for kind, tokens in mask.kinds.items():
            names = {name for side in mask.sequences if mask.kind(side) is kind for name in read.names(side)}
            functions.append(coordinate_function(self.plan, kind, tokens, sorted(names)))
        return functions

    def function(self) -> list[str]:
        """The lines of `products`."""
        mask, names, lines = self.plan.mask, self.plan.input_identifiers, self.printer.lines
        if any(each.pool.by_key_head for each in mask.pooled_vectors):
            lines.append("key_heads = k.shape[1]")
        lines += [
            "q, k, v = q.to(dtype), of_heads(k, q.shape[1]).to(dtype), of_heads(v, q.shape[1]).to(dtype)",
            "tables = {}",
        ]
        for each in mask.products:
            text = self.product(each)
            lines.append(f'tables["{names[each.name]}"] = {text}')
        results = ["None", "None"]
        if mask.pairs:
            sides = ([each.query for each in mask.pairs], [each.key for each in mask.pairs])
            results = [self.side(vectors, side) for vectors, side in zip(sides, mask.sequences, strict=True)]
        value = "None" if mask.key_value is None else self.vector(mask.key_value)
        rows = [self.vector(each.vector) for each in mask.values]
        lines.append(f"return tables, {', '.join(results)}, {value}, [{', '.join(rows)}]")
        text = "The products by name; what attention multiplies and adds up, None for the given ones; rows of values."
        signature = ", ".join(["q", "k", "v", "dtype", *self.parameters, "**_"])
        return [f"def products({signature}):", f'    """{text}"""', *(f"    {line}" for line in lines)]

    def side(self, vectors: Iterable[Vector], side: Side) -> str:
        """The text of a list of vectors that attention multiplies."""
        vectors = list(vectors)
        return "None" if vectors == [OfToken(side)] else f"[{', '.join(map(self.vector, vectors))}]"

    def product(self, product: VectorProduct) -> str:
        """The text of a product, [batch or 1, heads or 1, tokens of its side, entries of windows]."""
        left, right = product.left, product.right
        left_entries, right_entries = map(_has_windows, (left, right))
        if left_entries and not right_entries:
            left, right, left_entries, right_entries = right, left, False, True
        texts = f"{self.vector(left)}, {self.vector(right)}"
        if not right_entries:
            return f"of_each({texts}){'' if product.per is not None else '[..., 0]'}"
        flat = "" if product.per is not None or left_entries else ".squeeze(2)"
        return f"of_all({texts}){flat}"

    def vector(self, vector: Vector) -> str:
        """The name of a vector, which is assigned to it."""
        if isinstance(vector, OfValue):
            return "v"
        if isinstance(vector, OfToken) and not vector.scaled:
            return vector.side.letter
        if vector not in self.known:
            text, stem = self.fresh(vector)
            name = unused(stem, self.printer.taken)
            self.printer.taken.add(name)
            self.printer.lines.append(f"{name} = {text}")
            self.known[vector] = name
        return self.known[vector]

    def fresh(self, vector: Vector) -> tuple[str, str]:
        """The text of a vector, and a name for it."""
        match vector:
            case OfToken(side=side):
                return f"{side.letter} * q.shape[-1] ** -0.5", f"scaled_{side.letter}"
            case TableRow(input=name, indices=indices):
                table = self.plan.input_identifiers[name]
                chosen = _tuple(self.index(each) for each in indices)
                windows = _tuple(f"({each.first}, {each.count})" for each in vector.windows)
                return f"rows({table}, {chosen}, {windows}, dtype)", f"{table}_rows"
            case Multiple(factor=factor, vector=inner):
                return f"times({self.vector(inner)}, {self.value(factor)})", "multiple"
            case Sum(terms=terms):
                return " + ".join(map(self.vector, terms)), "vectors"
            case OfValue():
                return "v", "value"
            case Elementwise():
                return self.elementwise(vector), "elements"
            case OfGroup():
                return self.pooled(vector), "pooled"
            case _:
                assert_never(vector)

    def pooled(self, group: OfGroup) -> str:
        """The text of the pooled vector of each token's group."""
        letter, pool = group.side.letter, group.pool
        texts = [letter, self.value(Coordinate(group.side, group.by)), str(group.count), f'"{pool.kind}"']
        if pool.among is not None:
            texts.append(f"among={self.value(pool.among)}")
        if pool.by_key_head:
            texts.append("shared=shared_by(q.shape[1], key_heads)")
        elif pool.heads is not None:
            texts.append(f"shared=numbers_of({self.value(pool.heads)}, q.shape[1])")
        return f"of_groups({', '.join(texts)})"

    def elementwise(self, vector: Elementwise) -> str:
        """The text of a function of elements. The derivative beside a constant is that of `clamp`."""
        operands = vector.operands
        vectors = [self.vector(each) for each in operands if isinstance(each, Vector)]
        bounds = [each.value for each in operands if isinstance(each, Constant)]
        if vector.op is Op.ABSOLUTE:
            return f"{vectors[0]}.abs()"
        if bounds:
            return f"{vectors[0]}.clamp({'min' if vector.op is Op.MAXIMUM else 'max'}={bounds[0]})"
        texts = (self.vector(each) if isinstance(each, Vector) else self.element(each) for each in operands)
        return f"{OPERATORS[vector.op].torch}({', '.join(texts)})"

    def element(self, expression: Expression) -> str:
        """The text of a float of a token, as a vector of one element."""
        return f"torch.as_tensor({self.value(expression)}).to(q).unsqueeze(-1)"

    def index(self, index: Expression | Window) -> str:
        return "None" if isinstance(index, Window) else self.value(index)

    def value(self, expression: Expression) -> str:
        return self.printer.operand(expression, COMPARISON)


def _tuple(texts: Iterable[str]) -> str:
    inside = [*texts]
    return f"({inside[0]},)" if len(inside) == 1 else f"({', '.join(inside)})"


def _has_windows(vector: Vector) -> bool:
    return any(leaf.windows for leaf in vector_leaves(vector) if isinstance(leaf, TableRow))
