"""Rows, aims, the table."""

from __future__ import annotations

from dataclasses import dataclass, field

COLUMNS = ("jotsfs", "floor", "floor-x", "local", "http")


@dataclass(frozen=True)
class Aim:
    """`most`: jotsfs costs at most so many times what AGAINST costs; `least`: AGAINST costs at least so many times what
    jotsfs costs. Without AGAINST the figure itself counts."""

    against: str | None = None
    most: float | None = None
    least: float | None = None

    def value(self, figures: dict[str, float]) -> float:
        own = figures["jotsfs"]
        if self.against is None:
            return own
        other = figures[self.against]
        if self.most is None:
            return other / own if own else float("inf")
        return own / other if other else float("inf")

    def met(self, figures: dict[str, float]) -> bool:
        value = self.value(figures)
        return value <= self.most if self.most is not None else value >= self.least

    def __str__(self) -> str:
        bound = f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"
        return bound + (f" x {self.against}" if self.against else "")


@dataclass(frozen=True)
class Row:
    job: str
    unit: str
    figures: dict[str, float]
    against: str | None = "floor"  # of the ratio shown
    aim: Aim | None = None
    note: str = ""
    faster: bool = field(default=False)  # show how many times less jotsfs costs

    @property
    def ratio(self) -> str:
        other = self.figures.get(self.against or "")
        own = self.figures["jotsfs"]
        if not other or not own:
            return ""
        return f"1/{other / own:.0f} {self.against}" if self.faster else f"{own / other:.2f} {self.against}"

    @property
    def verdict(self) -> str:
        if self.aim is None:
            return ""
        return f"{self.aim}{'' if self.aim.met(self.figures) else '  MISSED'}"

    def cells(self) -> list[str]:
        return [self.job, self.unit, *(_number(self.figures.get(name)) for name in COLUMNS), self.ratio, self.verdict,
                self.note]

    def line(self) -> str:
        return "  ".join(cell for cell in self.cells() if cell)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value == int(value) and value < 1e7:
        return f"{int(value)}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(rows: list[Row]) -> str:
    lines = [["job", "unit", *COLUMNS, "ratio", "aim", ""], *(row.cells() for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    right = range(2, 2 + len(COLUMNS))
    return "\n".join("  ".join(cell.rjust(width) if place in right else cell.ljust(width)
                               for place, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def summary(rows: list[Row]) -> str:
    aims = [row for row in rows if row.aim]
    missed = sum(not row.aim.met(row.figures) for row in aims if row.aim)
    return f"{len(aims) - missed} of {len(aims)} aims met"
