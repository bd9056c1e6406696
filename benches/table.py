"""The one table of `make bench`."""

from dataclasses import dataclass, field

WIDTHS = {"question": 24, "who": 22, "CPU-s/M": 9, "rows/s": 11, "RSS MB": 8, "p50 ms": 9, "p99 ms": 9}


@dataclass
class Bar:
    """What a figure must not exceed."""
    what: str
    value: float
    bound: float

    @property
    def is_met(self):
        return self.value <= self.bound

    def __str__(self):
        return f"{self.what} ≤ {self.bound:g}: {'met' if self.is_met else f'MISSED ({self.value:.2f})'}"


class AtLeast(Bar):
    """What a figure must reach."""

    @property
    def is_met(self):
        return self.value >= self.bound

    def __str__(self):
        return f"{self.what} ≥ {self.bound:g}: {'met' if self.is_met else f'MISSED ({self.value:.2f})'}"


@dataclass
class Row:
    """What one runner showed for one question; what it was not asked stays empty."""
    question: str
    who: str
    cpu: float | None = None
    rows_s: float | None = None
    rss: float | None = None
    p50: float | None = None
    p99: float | None = None
    # How many times as much as whom.
    ratio: float | None = None
    base: str = ""
    bars: list[Bar] = field(default_factory=list)
    note: str = ""

    def line(self):
        """The row as text."""
        shown = [(self.cpu, ".2f"), (self.rows_s, ",.0f"), (self.rss, ".0f"), (self.p50, ".2f"), (self.p99, ".2f")]
        numbers = ["" if value is None else format(value, form) for value, form in shown]
        cells = [f"{text:>{width}}" for text, width in zip(numbers, list(WIDTHS.values())[2:])]
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} × {self.base}"
        bars = "; ".join(map(str, self.bars))
        said = " | ".join(text for text in (bars, self.note) if text)
        return (f"{self.question:<{WIDTHS['question']}}{self.who:<{WIDTHS['who']}}{''.join(cells)}  "
                f"{ratio:<19}{said}").rstrip()


def text(rows):
    """All rows under one head; a question is named once."""
    names = list(WIDTHS)
    head = "".join(f"{name:<{WIDTHS[name]}}" for name in names[:2]) + "".join(f"{n:>{WIDTHS[n]}}" for n in names[2:])
    lines, last = [f"{head}  {'ratio':<19}bars | more"], None
    for row in rows:
        if row.question != last:
            lines.append("")
        shown = row.line()
        lines.append(shown if row.question != last else " " * WIDTHS["question"] + shown[WIDTHS["question"]:])
        last = row.question
    return "\n".join(lines)
