"""The tiles of a pattern, found in a process of its own."""

import asyncio
from pathlib import Path

from maskdsl.syntax.program import load_program, program_from_text
from maskdsl.view.language_server.measure import Measurements, answer

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
    assert "All pairs that routes may select:" in said and "of all pairs attend" in said


def test_a_layer_is_laid_out_as_the_pattern_alone():
    image = "pattern image(h = 96, w = 96) { space image[y = h, x = w] attend neighborhood((9, 9)) order auto }\n"
    program = program_from_text(f"{image} stack pair() = 2 * image()", "x.attn", None)
    alone, layers = (answer(program, name).partition("|")[2] for name in ("image", "pair"))
    fastest = [line for line in layers.splitlines() if "as fast as" in line]
    assert fastest and fastest[0] in alone


def test_inputs_are_made_up():
    (path,) = Path("examples").glob("*/packed.attn")
    assert "of all pairs attend" in answer(load_program(path), "packed")
