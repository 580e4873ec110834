"""Flattens the expressions of a mask to a list that `evaluate.js` runs: equal nodes once, operands first."""

from typing import Any

from maskdsl.ir.expressions import (
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
from maskdsl.ir.facts.ranges import ENTRY_NUMBERS, INT32, Range, Reach, apply_reach, constant_reach, mask_leaf
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Type

_EXACT = Range(-(2**51), 2**51)
"""Integers that JavaScript's numbers hold exactly, with room for rounding quotients down. Others are BigInts."""

Instruction = dict[str, Any]


class Code:
    """One instruction for each node: `op`, the numbers of its operands in `args`, and `wide` if it needs BigInts.

    Pairs are of the first batch entry.
    """

    def __init__(self, mask: MaskIR) -> None:
        self.mask = mask
        self.instructions: list[Instruction] = []
        self.known: dict[Expression, int] = {}
        self.ranges: list[Reach] = []
        self.leaf = mask_leaf(mask)

    def add(self, expression: Expression) -> int:
        """The number of the instruction that computes an expression."""
        if expression not in self.known:
            instruction = self.instruction(expression)
            reach = self.reach(expression, instruction.get("args", ()))
            if isinstance(reach, Range) and (reach.low not in _EXACT or reach.high not in _EXACT):
                instruction["wide"] = True
            self.known[expression] = len(self.instructions)
            self.instructions.append(instruction)
            self.ranges.append(reach)
        return self.known[expression]

    def instruction(self, expression: Expression) -> Instruction:
        match expression:
            case Constant(value=float(value)):
                return {"op": "constant", "value": repr(value).replace("inf", "Infinity")}
            case Constant(value=value):
                return {"op": "constant", "value": repr(int(value))}
            case Coordinate(side=side, name=name):
                return {"op": "coordinate", "side": side.value, "name": name}
            case InSpace(side=side, space=name):
                return {"op": "member", "side": side.value, "start": (at := self.position(side, name))[0], "end": at[1]}
            case Head():
                return {"op": "head"}
            case Batch():
                return {"op": "constant", "value": "0"}
            case Score():
                raise AssertionError("a relation reads no score")
            case Read(input=name, indices=indices, sparse=True):
                return {"op": "entry", "table": name, "args": [self.add(index) for index in indices]}
            case Read(input=name, indices=indices):
                outside = {"open": True} if expression.open and expression.type is Type.FLOAT else {}
                return {"op": "read", "table": name, "args": [self.add(index) for index in indices], **outside}
            case Apply(op=op, arguments=arguments):
                kind = {"float": True} if arguments[-1].type is Type.FLOAT else {}
                return {"op": op.value, "args": [self.add(each) for each in arguments], **kind}

    def position(self, side: Side, name: str) -> tuple[int, int]:
        """The declared positions of the first token of a space, and of the one after its last."""
        sequence = self.mask.sequences[side]
        offsets = {
            space.name: (at, at + space.size) for space, at in zip(sequence.spaces, sequence.offsets, strict=True)
        }
        return offsets.get(name, (0, 0))

    def reach(self, expression: Expression, operands: list[int]) -> Reach:
        """The range of an expression, from those of its operands."""
        match expression:
            case Constant():
                return constant_reach(expression)
            case Apply():
                return apply_reach(expression, tuple(self.ranges[number] for number in operands))
            case _ if expression.type is not Type.INT:
                return None
            case Read(sparse=is_sparse):
                return ENTRY_NUMBERS if is_sparse else INT32
            case Batch():
                return Range(0, 0)
            case _:
                return self.leaf(expression)
