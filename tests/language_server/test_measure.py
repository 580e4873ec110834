"""The tiles of a pattern, found in a process of its own."""

import asyncio
from pathlib import Path

from maskdsl.language_server.measure import Measurements, answer
from maskdsl.syntax.program import load_program

LOCAL = "pattern local(n = 64, size = 9) { space tokens[n] attend window(size) }"


def test_what_takes_too_long_is_given_up():
    measurements = Measurements(seconds=0.001)
    said = asyncio.run(measurements.text(LOCAL, "x.attn", None, "local"))
    assert said == "Its tiles take more than 0.001 seconds to find."


def test_what_is_wrong_has_no_figures():
    measurements = Measurements(seconds=60)
    assert asyncio.run(measurements.text(LOCAL.replace("window", "windw"), "x.attn", None, "local")) == ""


def test_what_routes_may_select_is_counted():
    (path,) = Path("examples").glob("*/moba.attn")
    said = answer(load_program(path), "moba")
    assert "All that may be selected:" in said and "of all pairs attend" in said


def test_inputs_are_made_up():
    (path,) = Path("examples").glob("*/packed.attn")
    assert "of all pairs attend" in answer(load_program(path), "packed")
