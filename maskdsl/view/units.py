"""Formats numbers for people."""

_LETTERS = ("", "k", "M", "G", "T", "P", "E")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def _scaled(number: float, base: int, units: tuple[str, ...]) -> tuple[float, str]:
    """The number in the largest unit in which it is at least 1."""
    level = 0
    while abs(number) >= base and level + 1 < len(units):
        number /= base
        level += 1
    return number, units[level]


def count(number: int) -> str:
    """An exact count: `1,048,576`."""
    return f"{number:,}"


def about(number: float, unit: str = "") -> str:
    """A rounded number: `8.59 GFLOP`."""
    value, letter = _scaled(number, 1000, _LETTERS)
    return f"{digits(value)} {letter}{unit}".rstrip()


def size(number: float) -> str:
    """A number of bytes: `3.00 MiB`."""
    value, unit = _scaled(number, 1024, _BINARY)
    return f"{value:.0f} {unit}" if unit == "B" else f"{digits(value)} {unit}"


def percent(share: float) -> str:
    """A share: `12.3 %`. A share above 0 is never shown as 0 %, one below 1 never as 100 %."""
    value = 100 * share
    if 0 < value < 0.001:
        return "< 0.001 %"
    if 99.9 <= value < 100:
        return f"{min(value, 99.999):.3f} %"
    return f"{digits(value)} %"


def times(factor: float) -> str:
    """A factor: `14.2 x`."""
    return "no bound" if factor == float("inf") else f"{digits(factor)} x"


def duration(seconds: float) -> str:
    """A duration in seconds: `1.25 ms`."""
    for unit, length in ("s", 1.0), ("ms", 1e-3), ("us", 1e-6):
        if seconds >= length:
            return f"{digits(seconds / length)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def digits(value: float) -> str:
    """Three significant digits; no decimals for small whole numbers."""
    if value == int(value) and abs(value) < 1000:
        return f"{int(value)}"
    before = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    decimals = max(0, 3 - before)
    text = f"{value:.{decimals}f}"
    return text if abs(value) >= 1 or float(text) else f"{value:.1g}"


def numbers(values: list[int]) -> str:
    """A list of numbers with ranges shortened: `0-3, 6`."""
    ranges: list[list[int]] = []
    for value in sorted(values):
        if ranges and value == ranges[-1][-1] + 1:
            ranges[-1].append(value)
        else:
            ranges.append([value])
    return ", ".join(str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in ranges)
