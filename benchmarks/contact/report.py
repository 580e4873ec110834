"""What lines of steps come to: ratios, means, goals, and the page of docs/measured-gpu.md."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import exp, log

from contact.names import BACKWARD, FLASH, FLEX, FORWARD, MAP, OURS, OURS_TUNED, PEERS, WITH_MAPS
from contact.runner import DONE, FAULTED, NO_GPU, SKIPPED, Record

COLUMNS = (*PEERS, OURS_TUNED)
PASSES, MAPS = (FORWARD, BACKWARD), (WITH_MAPS, MAP)
REASONS = ("failed", "wrong")
"""Why a contender may have no times."""
MEAN_GOAL, FLASH_GOAL, MAPS_GOAL, DECODE_GOAL = 1.15, 0.9, 20.0, 10.0
NOTHING = "Nothing has been measured on a GPU yet: there is no figure here."
COMMANDS = """
`python benchmarks/first_contact.py check --out DIR` asks, in four minutes, whether the kernels are right on a GPU:
against float64, under compute-sanitizer where it is installed, by tests side by side, at offsets past `2**31`, and with
every launch configuration. `python benchmarks/first_contact.py measure --out DIR` then takes six minutes for rows
against FlexAttention, as it comes and tuned, and SDPA's flash and cuDNN backends. `make bench-gpu` measures the same
rows for longer, and more lengths and head dims. Each result is compared with float64 before it is timed; contenders
are timed in turn, and ours once more at the end: *drift* is by how much that differs.
"""
READING = """
Times of ours, useful TFLOP/s (of attending pairs), their share of a matrix product's, and how many times as fast as
each peer ours is. Where inputs decide who attends, both have their maps from earlier calls; *forward with maps* is by
the clock, of inputs that have just changed, with both maps. *map* is one that no input decides: ours on the host, from
the text of the pattern on, FlexAttention's by compiled `create_block_mask`.
"""
HEAD = "# Measured on a GPU\n"


@dataclass(frozen=True)
class Goal:
    """What was wanted, and what there is. `met` is None where it could not be measured."""

    text: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met]


def page(lines: list[Record]) -> str:
    """The page of what was measured; without a line from a GPU it says that nothing was."""
    machine = next((line for line in reversed(lines) if line["step"] == "versions" and line.get("gpu")), None)
    if machine is None:
        return f"{HEAD}\n{NOTHING}\n{COMMANDS}"
    seen = [line for line in lines if line["outcome"] != NO_GPU]
    parts = [HEAD, machine_line(machine), COMMANDS.strip(), *sections(seen)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def machine_line(line: Record) -> str:
    return (
        f"On {line['gpu']} (driver {line['driver']}), torch {line['torch']}, Triton {line['triton']}, "
        f"Python {line['python']}."
    )


def sections(lines: list[Record]) -> Iterator[str]:
    rows = [line for line in lines if "row" in line]
    yield "## Goals"
    yield table(("goal", "measured", ""), ((goal.text, goal.measured, goal.verdict) for goal in goals(lines)))
    yield "## Rows"
    yield READING
    head = ("row", "pass", "ours", "TFLOP/s", "of a product", *(f"to {peer}" for peer in COLUMNS), "drift")
    yield table(head, (cells for line in rows for cells in row_cells(line, product_rate(lines))))
    yield from others(lines)
    yield "## Steps"
    steps = ((line["call"], line["step"], line["outcome"], f"{line['seconds']:.0f} s", told(line)) for line in lines)
    yield table(("call", "step", "outcome", "time", ""), steps)
    lost = [f"- {text}" for line in rows for text in excuses(line)]
    if lost:
        yield "## Not measured"
        yield "\n".join(lost)


def others(lines: list[Record]) -> Iterator[str]:
    """Decoding, and what else has contenders and is no row."""
    decode = next((line for line in lines if line["step"] == "decode" and "window" in line), None)
    if decode is not None:
        yield f"## Decoding one token of {decode['length']:,}"
        cells = [(kind, name, *time_cells(each)) for kind in ("window", "dense") for name, each in decode[kind].items()]
        yield table(("keys", "", "time", "error"), cells)
    rest = [line for line in lines if "contenders" in line and "row" not in line]
    if rest:
        yield "## Training steps and packed sequences"
        yield table(
            ("", "", "time", "error"),
            ((line["step"], name, *time_cells(each)) for line in rest for name, each in line["contenders"].items()),
        )
    maps = next((line for line in lines if "our_seconds" in line), None)
    if maps is not None:
        yield (
            f"Block maps of documents, {maps['length']:,} tokens: {duration(maps['our_seconds'])}, compiled "
            f"`create_block_mask` {duration(maps['flex_seconds'])}."
        )


def time_cells(record: Record) -> tuple[str, str]:
    if "seconds" not in record:
        return next((what for what in REASONS if what in record), "stopped"), ""
    errors = record.get("errors", {"": record.get("error", 0.0)})
    return duration(record["seconds"]), f"{max(errors.values()):.2g}"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines)


# Rows


def row_cells(line: Record, product: float | None) -> Iterator[tuple[str, ...]]:
    for part in (*PASSES, *(each for each in MAPS if each in line)):
        seconds = time_of(line, OURS, part)
        if seconds is None:
            yield line["step"], part, outcome(line, part), *[""] * (3 + len(COLUMNS))
            continue
        ours = line["contenders"][OURS].get(part, {})
        rate = ours.get("tflops")
        share = f"{rate / product:.0%}" if rate and product else ""
        drift = f"{ours['drift']:+.1%}" if "drift" in ours else ""
        ratios = [against(line, peer, part) for peer in COLUMNS]
        yield line["step"], part, duration(seconds), f"{rate:.3g}" if rate else "", share, *ratios, drift


def time_of(line: Record, name: str, part: str) -> float | None:
    """Seconds of one contender's pass; None where it was not measured."""
    if part in MAPS:
        return line.get(part, {}).get(name)  # type: ignore[no-any-return]
    return line.get("contenders", {}).get(name, {}).get(part, {}).get("seconds")  # type: ignore[no-any-return]


def ratio(line: Record, peer: str, part: str) -> float | None:
    """How many times as fast as a peer we are."""
    ours, other = time_of(line, OURS, part), time_of(line, peer, part)
    return None if ours is None or other is None else other / ours


def against(line: Record, peer: str, part: str) -> str:
    """A ratio, or the peer's excuse."""
    found = ratio(line, peer, part)
    if found is not None:
        return f"{found:.2f}"
    record = {} if part in MAPS else line.get("contenders", {}).get(peer, {})
    return next((what for what in REASONS if what in record or what in record.get(part, {})), "")


def outcome(line: Record, part: str) -> str:
    """What became of a pass of ours that has no time."""
    ours = line.get("contenders", {}).get(OURS, {})
    passes = ours, ours.get(part, {}), line.get(part, {})
    said = [what for what in REASONS if any(what in each for each in passes)]
    return said[0] if said else str(line["outcome"])


def excuses(line: Record) -> Iterator[str]:
    """Who has no times, and why."""
    for name, record in line.get("contenders", {}).items():
        passes = [(name, record), *((f"{name}, {part}", record.get(part, {})) for part in PASSES)]
        for who, each in passes:
            yield from (f"{line['step']}: {who}: {what}: {each[what]}" for what in REASONS if what in each)


def told(line: Record) -> str:
    """What else a step says: why it ended early, rates, errors, how many tests, the end of a sanitizer's report."""
    said = [line["why"]] if "why" in line else []
    if "product_tflops" in line:
        said.append(f"copies {line['copy_bytes'] / 1e12:.2f} TB/s, products {line['product_tflops']:.0f} TFLOP/s")
    if "errors" in line and isinstance(line["errors"], dict):
        said.append(f"largest error {max(line['errors'].values()):.2g}")
    counts = [f"{line[what]} {what}" for what in ("passed", "failed", "skipped") if isinstance(line.get(what), int)]
    reports = [text for text in line.get("tool", ()) if "SUMMARY" in text]
    return "; ".join([*said, *counts, *reports]).replace("|", "/")


def product_rate(lines: list[Record]) -> float | None:
    """TFLOP/s of a product of matrices, in the call of the rows if it was measured there."""
    rates = [line["product_tflops"] for line in lines if "product_tflops" in line]
    return rates[-1] if rates else None


def duration(taken: float) -> str:
    return f"{taken * 1e6:.3g} us" if taken < 1e-3 else f"{taken * 1e3:.3g} ms" if taken < 1 else f"{taken:.3g} s"


# Goals


def goals(lines: list[Record]) -> list[Goal]:
    rows = [line for line in lines if "row" in line and "by_threads" not in line["row"]]
    found = []
    for part in PASSES:
        found.append(every(f"{part}: at least as fast as FlexAttention in every row", rows, FLEX, part, 1.0))
        found.append(
            single(f"{part}: {MEAN_GOAL} times as fast in the geometric mean", mean(rows, FLEX, part), MEAN_GOAL)
        )
    plain = [line for line in rows if line["row"]["pattern"] in ("dense", "causal")]
    for part in PASSES:
        found.append(every(f"{part}: dense and causal within 10% of SDPA's flash", plain, FLASH, part, FLASH_GOAL))
    maps = (line["ratio"] for line in lines if "our_seconds" in line)
    text = f"block maps of documents: {MAPS_GOAL:g} times as fast as compiled `create_block_mask`"
    found.append(single(text, next(maps, None), MAPS_GOAL))
    decode = (line.get("ratio") for line in lines if line["step"] == "decode")
    text = f"decode over a 32nd of a cache: {DECODE_GOAL:g} times as fast as over all of it"
    found.append(single(text, next(decode, None), DECODE_GOAL))
    return found


def mean(rows: list[Record], peer: str, part: str) -> float | None:
    """The geometric mean of our ratios to a peer."""
    ratios = [found for line in rows if (found := ratio(line, peer, part)) is not None]
    return exp(sum(map(log, ratios)) / len(ratios)) if ratios else None


def every(text: str, rows: list[Record], peer: str, part: str, bar: float) -> Goal:
    """One for which all rows count; what we could not compute is missed, what the peer could not is left out."""
    broken = [line["step"] for line in rows if is_broken(line, part)]
    compared = {line["step"]: found for line in rows if (found := ratio(line, peer, part)) is not None}
    slower = [f"{name} ({found:.2f})" for name, found in compared.items() if found < bar]
    parts = [f"{len(compared)} of {len(rows)} compared"]
    if compared:
        parts.append(f"least {min(compared.values()):.2f}")
    if slower:
        parts.append(f"below {bar:g}: {'; '.join(slower)}")
    if broken:
        parts.append(f"ours failed: {'; '.join(broken)}")
    complete = bool(rows) and len(compared) == len(rows)
    return Goal(text, ", ".join(parts), False if slower or broken else True if complete else None)


def is_broken(line: Record, part: str) -> bool:
    """Whether ours was started and has no time."""
    return time_of(line, OURS, part) is None and outcome(line, part) in (*REASONS, FAULTED)


def single(text: str, found: float | None, bar: float) -> Goal:
    return Goal(text, "-" if found is None else f"{found:.2f} times", None if found is None else found >= bar)


def failures(lines: list[Record]) -> list[str]:
    """Steps that failed, faulted or were stopped, and rows in which ours is wrong or failed."""
    broken = (line for line in lines if "row" in line and any(is_broken(line, part) for part in PASSES))
    ended = (line for line in lines if line["outcome"] not in (DONE, NO_GPU, SKIPPED))
    return [line["step"] for line in (*ended, *broken)]
