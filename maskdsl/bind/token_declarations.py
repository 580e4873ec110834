"""Declares what a pattern says of its tokens, once there are some: inputs, coordinates and routes."""

from dataclasses import replace

from maskdsl.bind.context.bound_values import Bad
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.expression.names import OF_CALLS
from maskdsl.bind.expression.table_inputs import declare
from maskdsl.bind.route.route_statements import with_route
from maskdsl.bind.statement.coord_statements import with_coordinate, with_given
from maskdsl.bind.statement.made_inputs import made_inputs
from maskdsl.bind.statement.parameters import check_argument, check_name
from maskdsl.bind.statement.pool_members import with_facts
from maskdsl.bind.visible_names import Names
from maskdsl.syntax import tree


def with_inputs_and_coordinates(
    declaration: tree.PatternDeclaration, names: Names, frame: Frame, unread: tuple[str, ...] = ()
) -> Frame:
    """Declares the inputs, except those that nothing reads, and then the coordinates."""
    return _with_coordinates(declaration, names, _with_inputs(declaration, names, frame, unread))


def _with_inputs(declaration: tree.PatternDeclaration, names: Names, frame: Frame, unread: tuple[str, ...]) -> Frame:
    statements = [each for each in declaration.statements if isinstance(each, tree.InputStatement)]
    taken = dict.fromkeys([*frame.declared.queries.coordinate_names(), *frame.declared.keys.coordinate_names()])
    for statement in statements:
        declared, name = frame.declared, statement.name.id
        fits = check_name(statement.name, taken, frame, "an input or a coordinate")
        fits &= check_argument(statement.name, OF_CALLS, "an input", frame)
        taken[name] = None
        given = declare(statement, names.at(statement, replace(frame, statement=StatementKind.CONSTANT)), elaborate)
        if isinstance(given, Bad) or not fits:
            frame = replace(frame, declared=replace(declared, bad_names=declared.bad_names | {name}))
            continue
        if name in unread:
            frame = replace(frame, declared=replace(declared, unread=(*declared.unread, given)))
            continue
        declared = replace(declared, inputs=(*declared.inputs, given))
        frame = replace(frame, declared=with_given(given, declared) if given.is_coordinate else declared)
    declared = frame.declared
    made = made_inputs(declared.program, declaration, declared.inputs)
    return replace(frame, declared=replace(declared, inputs=(*declared.inputs, *made)))


def _with_coordinates(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Frame:
    frame = replace(frame, declared=with_facts(declaration, frame.declared))
    statements = [each for each in declaration.statements if isinstance(each, tree.CoordinateStatement)]
    for statement in statements:
        frame = replace(frame, declared=with_coordinate(statement, names.at(statement, frame), elaborate))
    return frame


def with_routes(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Frame:
    """Declares the routes, which may read inputs and coordinates."""
    for statement in declaration.statements:
        if isinstance(statement, tree.RouteStatement):
            declared, name = frame.declared, statement.name
            coordinates = [*declared.queries.coordinate_names(), *declared.keys.coordinate_names()]
            known = dict.fromkeys([*coordinates, *(each.name for each in declared.inputs), *names.last])
            if check_name(name, known, frame, "a coordinate, an input, a parameter or a `let`"):
                declared = with_route(statement, names.at(statement, frame), elaborate)
            else:
                declared = replace(declared, bad_names=declared.bad_names | {name.id})
            frame = replace(frame, declared=declared)
    return frame
