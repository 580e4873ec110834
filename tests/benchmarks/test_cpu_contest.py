"""The contest on a CPU: at small sizes all sides of each case agree, and what is wrong is believed by nobody."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import cpu_contest
import cpu_rivals
import pytest
import torch
from cpu import TABLE, with_sections
from cpu_cases import CASES, Case
from cpu_contest import FLEX, OURS, Unequal, kernel_seconds, main, measured, merged
from cpu_report import kernels_line, line, means, met, page_rows
from cpu_setups import Setup, causal

PASSES = ("forward", "forward + backward")
small = partial(measured, backend="auto", threads=1, seconds=0, small=True)


def trait(case: Case) -> tuple[object, ...]:
    """What a case has in common with others that differ in size alone."""
    kinds = {name: each for name, each in case.sizes.items() if isinstance(each, (bool, str))}
    return case.make, case.kind, str(kinds), str(case.sizes.get("heads"))


FIRST = {trait(case): case for case in reversed(CASES.values())}.values()


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in FIRST else pytest.mark.long) for case in CASES.values()],
    ids=lambda case: case.name,
)
def test_all_sides_agree(case: Case) -> None:
    for record in small(replace(case, passes=case.passes[-1:]), quick=case in FIRST):
        assert record["seconds"][OURS] > 0 and record["best"] in record["seconds"]
        assert record["ratio"] > 0
        assert "left out" not in record


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpu_setups.dense", lambda **_: cpu_rivals.dense())
    case = CASES["causal, 64"]
    with pytest.raises(Unequal, match="SDPA is_causal: results differ"):
        next(small(case, quick=True))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_wrong_gradient_is_not_timed(number: int) -> None:
    """Of q, k or v: a rival whose gradient does not reach one of them as it should."""

    def half(setup: Setup) -> Setup:
        (name, right), *_ = setup.rivals.items()

        def wrong(*tensors: torch.Tensor) -> torch.Tensor:
            given = [(x + x.detach()) / 2 if i == number - 1 else x for i, x in enumerate(tensors)]
            return right(*given)

        return Setup(setup.mask, setup.tensors, {name: wrong})

    case = Case("halved", "whole", lambda *given, **sizes: half(causal(*given, **sizes)), {"n": 48})
    records = measured(case, "auto", 1, 0, False, True)
    assert next(records)["pass"] == PASSES[0]
    with pytest.raises(Unequal):
        next(records)


def test_slow_rivals_are_called_once() -> None:
    counts = dict.fromkeys((OURS, "fast", "slow"), 0)
    now = 0.0

    def call(name: str, seconds: float) -> tuple[torch.Tensor, ...]:
        nonlocal now
        counts[name] += 1
        now += seconds
        return ()

    steps = {name: partial(call, name, seconds) for name, seconds in ((OURS, 3.0), ("fast", 0.2), ("slow", 0.5))}
    assert cpu_contest.in_turn(steps, 10, lambda: now) == pytest.approx({OURS: 3, "fast": 0.2, "slow": 0.5})
    assert counts == {OURS: 4, "fast": 4, "slow": 1}


def test_no_call_finds_what_an_earlier_one_kept() -> None:
    """Calls that are slow the first time only are slow every time, and making tensors anew is not timed."""
    now, is_new = 0.0, True

    def renew() -> None:
        nonlocal now, is_new
        now, is_new = now + 7, True

    def call() -> tuple[torch.Tensor, ...]:
        nonlocal now, is_new
        now, is_new = now + (1e-3 if is_new else 1e-6), False
        return ()

    assert cpu_contest.in_turn({OURS: call, "same": call}, 1, lambda: now, renew) == pytest.approx(
        {OURS: 1e-3, "same": 1e-3}
    )


def test_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "contest.json"
    words = ["--quick", "--seconds", "0", "--only", "host, causal 1", "--output", output]
    monkeypatch.setattr("sys.argv", ["cpu_contest.py", *map(str, words)])
    main()
    whole = json.loads(output.read_text())
    assert {(each["case"], each["pass"]) for each in whole["records"]} == {
        (f"host, causal {n}", each) for n in (16, 128) for each in PASSES
    }
    assert "host, causal 128, forward + backward, float32: " in capsys.readouterr().out
    assert len(output.read_text().splitlines()) == len(whole["records"]) + 2


def test_names_that_are_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["cpu_contest.py", "--only", "nothing"])
    with pytest.raises(SystemExit):
        main()
    assert "there are the kinds host, whole, decode, " in capsys.readouterr().err


def test_committed_results_are_those_of_the_page() -> None:
    whole = json.loads(cpu_contest.RESULTS.read_text())
    assert not whole["quick"]
    possible = {(case.name, kind, dtype) for case in CASES.values() for kind in case.passes for dtype in case.dtypes}
    assert {
        (each["case"], each["pass"], each["dtype"]) for each in whole["records"] if each["threads"] == 1
    } == possible
    with_two = {each["case"] for each in whole["records"] if each["threads"] == 2}
    assert with_two == {case.name for case in CASES.values() if case.threads}
    assert len(cpu_contest.RESULTS.read_text().splitlines()) < 2000
    assert TABLE.read_text() == with_sections(TABLE.read_text(), {"contest": page_rows(whole)})


def test_results_of_some_cases_replace_theirs() -> None:
    names = ["full, 64", "full, 1,024", "full, 4,096"]
    before = {"kernels": {"loaded": 1}, "records": [record(1.0, case=name) for name in [*names, "a case of before"]]}
    now = {"kernels": None, "records": [record(2.0, case=names[1])]}
    whole = merged(before, now)
    assert [(each["case"], each["ratio"]) for each in whole["records"]] == list(
        zip(names, [1.0, 2.0, 1.0], strict=True)
    )
    assert whole["kernels"] == {"loaded": 1}


def record(ratio: float, **more: object) -> dict[str, object]:
    seconds = {OURS: 1e-3, "SDPA": 1e-3 * ratio}
    head = {"case": "full, 64", "pass": "forward", "dtype": "float32", "threads": 1}
    return head | {"seconds": seconds, "best": "SDPA", "ratio": ratio} | more


def test_the_report() -> None:
    good, bad = record(4.0), record(0.9, dtype="bfloat16", memory={OURS: 3.2, "SDPA": 8.9})
    bad["left out"] = {FLEX: "no kernel"}
    more = record(1.0, case="full, 1,024")
    failed = {"case": "full, 4,096", "threads": 1, "failed": "Unequal: SDPA"}
    assert [met(each) for each in (good, bad, more, failed)] == [True, False, True, False]
    assert line(good) == "full, 64, forward, float32: 4.00 (maskdsl 1 ms, SDPA 4 ms)"
    assert line(bad).endswith(
        "bfloat16: 0.90, below its bar (maskdsl 1 ms, SDPA 0.9 ms); left out: FlexAttention: no kernel"
    )
    assert line(failed) == "full, 4,096: failed: Unequal: SDPA"
    assert means([good, more, failed])["forward", "float32"] == pytest.approx(2)
    machine = {"cores": 2, "processor": "one", "torch": "2"}
    rows = page_rows({"machine": machine, "kernels": None, "records": [good, bad, more, failed]})
    assert "| full, 64 | 4.00 SDPA | **0.90** SDPA |  |  |  |" in rows
    assert "- geometric mean of whole sequences, forward, float32: 2.00, at least 1.5" in rows
    assert "| full, 4,096 | failed | failed | failed | failed |  |" in rows


@pytest.mark.parametrize(("above", "right"), [(9e-6, True), (11e-6, False)])
def test_the_bar_of_short_calls(above: float, right: bool) -> None:
    assert met(record(0.5, case="host, causal 16", seconds={OURS: 2e-5 + above, "SDPA": 2e-5})) is right


def test_the_line_of_kernels() -> None:
    assert kernels_line({"compiled": 0.9, "loaded": 0.01}) == (
        "kernels in C: compiled in 900 ms, at most 1.5 s; loaded in 10 ms, at most 50 ms of processor time"
    )


@pytest.mark.long
def test_the_time_of_kernels() -> None:
    kernels = kernel_seconds()
    if kernels is None:
        # A compiler is optional: without one `tiled` computes, and there is no kernel whose time could be taken.
        pytest.skip("no C compiler works here, so no kernel in C is built")
    assert 0 < kernels["loaded"] < kernels["compiled"] < 60
