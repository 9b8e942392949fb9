"""Numbers as people read them: decimal megabytes, percent with its interval, durations. Shared by screen and report."""

from __future__ import annotations

from fedpeft.journal.headline import ACCURACY, LOSS, is_share
from fedpeft.report.summary import wilson

MISSING = "–"


def bytes_text(count: float) -> str:
    """Bytes in decimal units, three digits: `940 B`, `1.31 MB`, `14.2 GB` (MB = 10^6 bytes)."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{_three_digits(value)} {unit}"


def count_text(count: int) -> str:
    """A count with thin groups of three: `22 713 216`."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent_text(share: float | None) -> str:
    """A share from 0 to 1 as `84.3 %`."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def interval_text(share: float | None, examples: int) -> str:
    """The 95 % interval of an accuracy: `82.7 to 85.8 %`."""
    if share is None or examples <= 0:
        return MISSING
    low, high = wilson(share, examples)
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def metric_text(name: str, value: float | None) -> str:
    """A metric with its unit: a share in percent, `84.3 %`; anything else with four digits, `7.312`."""
    if value is None:
        return MISSING
    return percent_text(value) if is_share(name) else number_text(value)


def metric_label(name: str) -> str:
    """A metric's name in words: `exact match`."""
    return name.replace("_", " ")


def metric_unit(name: str) -> str:
    """The unit of a metric where it has one: `%` of a share, `nats` of a loss."""
    return "%" if is_share(name) else "nats" if name == LOSS else ""


def metric_number(name: str, value: float | None) -> str:
    """A metric without its unit and with three digits, for a narrow column: `84.3` for 84.3 %, `0.742`."""
    if value is None or is_share(name):
        return metric_text(name, value).removesuffix(" %")
    return f"{value:.3g}" if abs(value) < 999.5 else number_text(value)


def metric_interval(name: str, value: float | None, examples: int) -> str:
    """The 95 % interval of an accuracy; of other metrics none is known from the mean alone."""
    return interval_text(value, examples) if name == ACCURACY else MISSING


def difference_text(name: str, difference: float) -> str:
    """A difference of two values of a metric, with its sign: `+23.1 points` of a share, `-0.82`."""
    if is_share(name):
        return points_text(difference)
    sign = "+" if difference >= 0 else "\N{MINUS SIGN}"
    return sign + number_text(abs(difference))


def difference_interval(name: str, mean: float, low: float | None, high: float | None) -> str:
    """A difference and the ends of its interval, if any, without a unit: `+0.2 (\N{MINUS SIGN}1.0 to +1.3)`."""
    middle, *ends = (
        difference_text(name, value).removesuffix(" points") for value in (mean, low, high) if value is not None
    )
    return f"{middle} ({' to '.join(ends)})" if ends else middle


def number_text(value: float) -> str:
    """Four digits, without an exponent while it can be read: `0.0123`, `7.312`, `128`."""
    text = f"{value:.4g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e7 else text


def points_text(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign: `+23.1 points`."""
    return f"{100 * difference:+.1f} points".replace("-", "\N{MINUS SIGN}")


def ratio_text(ratio: float | None) -> str:
    """How many times less: `412×`."""
    if ratio is None:
        return MISSING
    return f"{count_text(round(ratio))}×" if ratio >= 100 else f"{_three_digits(ratio)}×"


def seconds_text(seconds: float) -> str:
    """A duration: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
