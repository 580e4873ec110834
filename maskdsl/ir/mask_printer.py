"""A mask as text, for `maskdsl emit --stage ir`. Expressions are printed in the language itself."""

from collections.abc import Iterator
from collections.abc import Sequence as Ordered
from typing import assert_never

from maskdsl.base.source import Source, Span
from maskdsl.ir.declared.inputs import Input, said
from maskdsl.ir.declared.sequences import (
    Along,
    Computed,
    CoordinateDefinition,
    CoordinateSource,
    Given,
    PoolBoxes,
    PoolGroups,
    Sequence,
    Shuffled,
    Space,
)
from maskdsl.ir.expressions import (
    FALSE,
    TRUE,
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Read,
    Score,
    Side,
)
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.ops import COMPARISONS, OPERATORS, Op, Type
from maskdsl.ir.routes import Above, Balanced, Draw, Nearest, Pools, Rank, Route, Routed, Selector, TopCount, TopMass
from maskdsl.ir.values.group_scores import Extent, Extreme, Gather, GatherHeads, GroupScores, Softmax, Step
from maskdsl.ir.values.group_scores import Product as GroupProduct
from maskdsl.ir.values.token_vectors import (
    Elementwise,
    Multiple,
    OfGroup,
    OfToken,
    OfValue,
    Pool,
    Sum,
    TableRow,
    Vector,
    VectorProduct,
    Window,
)
from maskdsl.syntax import tree
from maskdsl.syntax.format_expression import format_expression

_NOWHERE = Span(Source("<ir>", ""), 0, 0)


def print_mask(mask: MaskIR) -> str:
    """The whole mask as text, one declaration a line; what branches share stands above them."""
    parameters = ", ".join(f"{name} = {value}" for name, value in mask.parameters)
    lines = [f"mask {mask.name}({parameters}), {mask.heads} head{'s' if mask.heads != 1 else ''}"]
    if mask.self_attention:
        lines += _sequence("tokens", mask.queries)
    else:
        lines += [*_sequence("queries", mask.queries), *_sequence("keys", mask.keys)]
    lines += [f"input {each.name}: {_input_type(mask, each)}" for each in mask.given]
    if mask.branches:
        text = "\n".join(lines) + "\n"
        return text + "".join(f"\nbranch {each.branch}\n{_attention(each)}" for each in mask.branches)
    return "\n".join(lines) + "\n" + _attention(mask)


def _input_type(mask: MaskIR, declared: Input) -> str:
    """The type and the dimensions as declared: entries stand for those in front of their sparse input."""
    sparse = None if declared.lists is None else mask.input(declared.lists)
    front = len(declared.dimensions) - (1 if sparse is None else len(sparse.dimensions) - 1)
    dimensions = declared.dimensions if sparse is None else (*declared.dimensions[:front], declared.dimensions[-1])
    sides = ", ".join(each.text for each in dimensions)
    return ("sparse" if declared.sparse else str(declared.type)) + f"[{sides}]" * bool(sides)


def _attention(mask: MaskIR) -> str:
    """What a mask without branches computes, one statement a line."""
    lines = [line for each in mask.routed for line in print_routed(each)]
    lines += [f"product {_product(each)}" for each in mask.products]
    lines.append(f"relation {print_expression(mask.relation)}")
    if mask.scale is not None:
        lines.append(f"scale {print_expression(mask.scale)}")
    if mask.pairs:
        pairs = (f"dot({_vector(each.query)}, {_vector(each.key)})" for each in mask.pairs)
        lines.append(f"multiplied {' + '.join(pairs)}")
    lines += [f"score {print_expression(score)}" for score in mask.scores]
    if mask.weight is not None:
        lines.append(f"weight {print_expression(mask.weight)}")
    if mask.key_value is not None:
        lines.append(f"value {_vector(mask.key_value)}")
    for term in mask.values:
        lines.append(f"mass {print_expression(term.weight)} of {_vector(term.vector)}")
    if mask.factor is not None:
        lines.append(f"weight {print_expression(mask.factor)}")
    lines += [f"sink {print_expression(sink)}" for sink in mask.sinks]
    if mask.normalize is not Normalize.BY_QUERY:
        lines.append(f"normalize {mask.normalize}")
    return "\n".join(lines) + "\n"


def print_routed(routed: Routed) -> list[str]:
    """What a route says, one line each for its products and for itself."""
    match routed:
        case Route(name=name, products=products, score=score, selector=selector, candidates=candidates):
            where = "" if candidates == TRUE else f" where {print_expression(candidates)}"
            always = "" if routed.always == FALSE else f" always {print_expression(routed.always)}"
            chosen = f"route {name} = {_selector(selector, print_expression(score))}{where}{always}"
            return [*map(_group_product, products), chosen]
        case GroupScores(name=name, products=products, score=score, candidates=candidates, steps=steps):
            where = "" if candidates == TRUE else f" where {print_expression(candidates)}"
            text = print_expression(score)
            for step in steps:
                text = _step(step, text)
            return [*map(_group_product, products), f"table `{name}` = {text}{where}"]
        case Nearest(name=name, centroids=centroids):
            return [f"found {name} = nearest({centroids})"]
        case Balanced(name=name, centroids=centroids, size=size, first=first, last=last):
            return [f"found {name} = balanced({size}, {centroids}), rows {first} to {last - 1}"]
        case Rank(name=name, space=space, keys=keys):
            return [f"found {name} = rank({', '.join(map(print_expression, keys))}) in {space}"]
        case Draw(name=name, count=count, seed=seed, numbers=numbers, candidates=candidates):
            arguments = ", ".join(map(print_expression, (count, Constant(seed), *numbers)))
            where = "" if candidates == TRUE else f" where {print_expression(candidates)}"
            return [f"route {name} = draw({arguments}){where}, of {routed.keys.by} for {routed.queries.by}"]
        case Pools(name=name, space=space, fact=fact):
            return [f"found {name} = {fact} of {space}"]
        case _:
            assert_never(routed)


def _selector(selector: Selector, score: str) -> str:
    match selector:
        case TopCount(count=count, per=per):
            return f"topk({print_expression(count)}, {score}{_per(per)})"
        case TopMass(mass=mass, per=per, weighs=weighs, reach=reach):
            weights = f"{'weights = ' if weighs else ''}{score}{_per(per)}{'' if reach else ', reach = False'}"
            return f"topp({print_expression(mass)}, {weights})"
        case Above(threshold=threshold):
            return f"above({print_expression(threshold)}, {score})"
        case _:
            assert_never(selector)


def _per(per: Extent) -> str:
    named = {Extent.KEY: "key", Extent.KEY_OF_ALL_HEADS: "(batch, key)"}
    return "" if per is Extent.QUERY else f", per = {named.get(per, per.value)}"


def _step(step: Step, score: str) -> str:
    match step:
        case Softmax(per=per, among=among):
            return f"softmax({score}{'' if among is None else f' where {print_expression(among)}'}{_per(per)})"
        case Extreme(kind=kind, per=per):
            return f"{kind}({score}{_per(per)})"
        case Gather(kind=kind, queries=queries, keys=keys):
            return f"{kind}({score} by (q.{queries.by}, k.{keys.by}))"
        case GatherHeads(kind=kind, by_key_head=by_key_head):
            return f"{kind}({score}, heads = {'key_head' if by_key_head else 'all'})"
        case _:
            assert_never(step)


def _group_product(product: GroupProduct) -> str:
    return f"{product.name} = dot({_vector(product.left)}, {_vector(product.right)})"


def _pool(pool: Pool, letter: str, by: str) -> str:
    vector = letter if pool.of is None else _vector(pool.of)
    among = "" if pool.among is None else f" where {print_expression(pool.among)}"
    shared = "key_head" if pool.by_key_head else "" if pool.heads is None else print_expression(pool.heads)
    options = (f", heads = {shared}" if shared else "") + (f", span = {pool.span}" if pool.span > 1 else "")
    return f"{pool.kind}({vector}{among} by {by}{options})"


def _product(product: VectorProduct) -> str:
    read = print_expression(Read(f"`{product.name}`", product.indices, Type.FLOAT))
    return f"{read} = dot({_vector(product.left)}, {_vector(product.right)})"


def _vector(vector: Vector) -> str:
    match vector:
        case OfToken(side=side, scaled=scaled):
            return f"{side.letter} / sqrt(dim)" if scaled else side.letter
        case OfValue():
            return "v"
        case TableRow(input=name, indices=indices):
            return f"{name}[{', '.join(map(_index, indices))}]"
        case Multiple(factor=factor, vector=inner):
            return f"({print_expression(factor)}) * ({_vector(inner)})"
        case Sum(terms=terms):
            return " + ".join(map(_vector, terms))
        case OfGroup(side=side, pool=pool, by=by):
            return _pool(pool, side.letter, by)
        case Elementwise(op=op, operands=operands):
            texts = (_vector(each) if isinstance(each, Vector) else print_expression(each) for each in operands)
            return f"{OPERATORS[op].function}({', '.join(texts)})"
        case _:
            assert_never(vector)


def _index(index: Expression | Window) -> str:
    if not isinstance(index, Window):
        return print_expression(index)
    return f"{print_expression(index.index)} in {index.first} .. {index.first + index.count}"


def _sequence(kind: str, sequence: Sequence) -> list[str]:
    spaces = dict.fromkeys(each for space in sequence.spaces for each in space.chain)
    lines = [line for space in spaces for line in _space(space)]
    lines.append(f"{kind} {' ++ '.join(space.name for space in sequence.spaces)}")
    for definition in sequence.coordinates:
        lines += _coordinate(definition)
    for space, keys in zip(sequence.spaces, sequence.order, strict=bool(sequence.order)):
        if keys:
            lines.append(f"order {space.name} by {', '.join(map(print_expression, keys))}")
    return lines


def _space(space: Space) -> list[str]:
    """The line of a space, behind the coordinates by which it is pooled."""
    if space.pooling is None:
        return [f"space {space.name}[{', '.join(f'{axis.name} = {axis.length}' for axis in space.axes)}]"]
    start = f"space {space.name} = {space.pooling.kind}({space.pooling.source.name}"
    match space.pooling.pools:
        case PoolBoxes(sides=box):
            return [f"{start}, {box if len(box) > 1 else box[0]})"]
        case PoolGroups(by=by, tokens=tokens):
            coordinates = [line for each in tokens.coordinates for line in _coordinate(each)]
            return [*coordinates, f"{start} by {by}, {space.size})"]
        case other:
            assert_never(other)


def _coordinate(definition: CoordinateDefinition) -> list[str]:
    return [f"coord {space}.{definition.name} = {_source(source)}" for space, source in definition.sources]


def _source(source: CoordinateSource) -> str:
    match source:
        case Computed(value=value):
            return print_expression(value)
        case Along(kind=kind, axes=axes):
            return f"{kind}({', '.join(axes)})"
        case Shuffled(of=of, seed=seed):
            return f"shuffle({of}, {seed})"
        case Given(input=name):
            return f"input {name}"
        case _:
            assert_never(source)


def print_expression(expression: Expression) -> str:
    """The expression as one line of the language."""
    return format_expression(_tree(expression))


def _name(text: str) -> tree.Name:
    return tree.Name(text, span=_NOWHERE)


def _tree(expression: Expression) -> tree.Expression:
    match expression:
        case Constant(value=value):
            return _constant(value)
        case Coordinate(side=Side.TOKEN, name=name):
            return _name(name)
        case Coordinate(side=side, name="i"):
            return _name(side.letter)
        case Coordinate(side=side, name=name):
            return tree.Attribute(_name(side.letter), _name(name), span=_NOWHERE)
        case InSpace(side=Side.KEY, space=space):
            return tree.Arrow(_name("all"), _name(space), span=_NOWHERE)
        case InSpace(space=space):
            return tree.Arrow(_name(space), _name("all"), span=_NOWHERE)
        case Head():
            return _name("head")
        case Batch():
            return _name("batch")
        case Score():
            return _name("s")
        case Read(input=name, indices=()):
            return _name(name)
        case Read(input=name, indices=(*indices, Read(sparse=True) as entry)):
            return tree.Index(_name(name), tuple(map(_tree, (*indices, *entry.indices[-2:]))), span=_NOWHERE)
        case Read(input=name, indices=indices):
            return tree.Index(_name(said(name)), tuple(map(_tree, indices)), span=_NOWHERE)
        case Apply(op=Op.LESS_EQUAL, arguments=(Constant(value=0), Read(sparse=True) as entry)):
            return _tree(entry)
        case Apply(op=Op.LESS, arguments=(Read(sparse=True) as entry, Constant(value=0))):
            return tree.Unary("not", _tree(entry), span=_NOWHERE)
        case Apply():
            return _operator(expression)
        case _:
            assert_never(expression)


def _joined(conditions: Ordered[Expression]) -> Iterator[tree.Expression]:
    """The operands of an `and`; the two ends of an arrow are one."""
    pending = list(conditions)
    while pending:
        match pending:
            case [InSpace(side=Side.QUERY, space=query), InSpace(side=Side.KEY, space=key), *pending]:
                yield tree.Arrow(_name(query), _name(key), span=_NOWHERE)
            case [condition, *pending]:
                yield _tree(condition)


def _constant(value: int | float | bool) -> tree.Expression:
    if isinstance(value, bool):
        return tree.Boolean(value, span=_NOWHERE)
    if value < 0:
        return tree.Unary("-", _constant(-value), span=_NOWHERE)
    return tree.Integer(value, span=_NOWHERE) if isinstance(value, int) else tree.Float(value, span=_NOWHERE)


def _operator(node: Apply) -> tree.Expression:
    operands = tuple(_joined(node.arguments) if node.op is Op.AND else map(_tree, node.arguments))
    operator = OPERATORS[node.op]
    match node.op:
        case Op.AND | Op.OR:
            joined = operands[0]
            for operand in operands[1:]:
                joined = tree.Binary(operator.symbol, joined, operand, span=_NOWHERE)
            return joined
        case Op.SELECT:
            condition, then, otherwise = operands
            return tree.Conditional(then, condition, otherwise, span=_NOWHERE)
        case op if op in COMPARISONS:
            return tree.Comparison(operands, (operator.symbol,), span=_NOWHERE)
        case _ if operator.function:
            arguments = tuple(tree.Argument(None, each, span=_NOWHERE) for each in operands)
            return tree.Call(_name(operator.function), arguments, span=_NOWHERE)
        case _ if operator.count == 1:
            return tree.Unary(operator.symbol, operands[0], span=_NOWHERE)
        case _:
            return tree.Binary(operator.symbol, operands[0], operands[1], span=_NOWHERE)
