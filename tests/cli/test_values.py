"""Values of parameters as words."""

import pytest

from maskdsl.cli.request.parameter_words import read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4096", 4096),
        ("1_048_576", 1048576),
        ("-3", -3),
        ("+3", 3),
        ("1.5", 1.5),
        ("-1e-3", -1e-3),
        ("True", True),
        ("(7, 7)", (7, 7)),
        ("(3,)", (3,)),
        ("(2 * 3, -1)", (6, -1)),
        ("2 ** 20", 2**20),
        ("-7 // 2", -4),
        ("-7 % 2", 1),
        ("7 / 2", 3.5),
        ("y", "y"),
        ("(y, x)", ("y", "x")),
        ("all", "all"),
    ],
)
def test_values(text, value):
    found = read_value(text)
    assert found == value and type(found) is type(value)
