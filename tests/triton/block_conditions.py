"""Run in a process of its own, with TRITON_INTERPRET=1: conditions of whole blocks of keys in the decoding kernel."""

import sys
from pathlib import Path

import torch

import maskdsl
from maskdsl.ir.facts.block_conditions import block_condition
from tests.triton.decoding import compare
from tests.triton.interpreted import poisoned

FILE = Path(__file__).with_suffix(".attn")


def main(name: str) -> None:
    mask = maskdsl.load(FILE)[name].bind(heads=8)
    assert (block_condition(mask.ir, 64) is None) == (name == "two")
    torch.manual_seed(3)
    tables = {
        "table": torch.rand(3, 8, 5, 5) < 0.4 if name == "alone" else torch.rand(8, 10, 10) < 0.3,
        "other": torch.randint(0, 2, (10, 10)),
    }
    inputs = {each.name: tables[each.name] for each in mask.ir.inputs}
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    compare(mask, inputs, 3, 4, (16, 24))  # one program for each tile of rows, of more blocks than a list has
    print("agreed")


if __name__ == "__main__":
    main(sys.argv[1])
