"""What a claim is, what a run of it finds, and the table of them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from _contender import HYPERCORN, Contender


@dataclass(frozen=True, slots=True)
class Cell:
    """What one server does about one claim.

    Attributes:
      holds: the claim holds of it.
      text: what was seen, with figures.
      note: a sentence for below the table, or "".
    """

    holds: bool
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """What all claims of one run share.

    Attributes:
      quick: shorter waits and fewer repetitions.
      shared: servers with their defaults, which live as long as the run; claims that stop or spoil a server
        start one of their own.
      certificates: two pairs of files, certificate and key, for `HOST`; and the file of who issued them.
    """

    quick: bool
    shared: Mapping[str, Contender]
    certificates: tuple[tuple[str, str], tuple[str, str], str]


Measure = Callable[[Run, str], Awaitable[Cell]]


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the table.

    Attributes:
      text: what is claimed.
      rows: numbers in the survey of features that this stands for.
      measure: finds out about one server.
      without: servers that have no way to do it, with why that is known; these are not run.
      turn: "long" ones mostly wait, and run beside all others; "alone" ones measure delays, and run one after
        another when all but the long ones are done.
    """

    text: str
    rows: str
    measure: Measure
    without: Mapping[str, str] = field(default_factory=dict)
    turn: Literal["long", "beside", "alone"] = "beside"


class Table:
    """One Markdown table: a line for each claim, a column for each server, and notes below.

    Args:
      servers: the columns, in order.
      absent: servers that could not be run, with why.
    """

    def __init__(self, servers: Sequence[str], absent: Mapping[str, str]) -> None:
        self._servers = servers
        self._absent = absent
        self._notes: list[str] = []

    def render(self, claims: Sequence[Claim], found: Mapping[tuple[str, str], Cell | str]) -> str:
        """Return the table.

        Args:
          claims: in the order of the lines.
          found: by the text of the claim and the name of the server; a str says why there is no figure.
        """
        names = [f"{name} on trio" if name == HYPERCORN else name for name in self._servers]
        rows = [["claim", "rows", *names]]
        for claim in claims:
            rows.append([claim.text, claim.rows, *(self._cell(claim, name, found) for name in self._servers)])
        rows.insert(1, ["---"] * len(rows[0]))
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        notes = [f"{number}. {note}" for number, note in enumerate(self._notes, 1)]
        return "\n".join([*lines, "", *notes])

    def _cell(self, claim: Claim, name: str, found: Mapping[tuple[str, str], Cell | str]) -> str:
        if name in self._absent:
            return f"absent{self._mark(f'{name}: {self._absent[name]}')}"
        if name in claim.without:
            return f"-{self._mark(f'{name}: {claim.without[name]}')}"
        cell = found[claim.text, name]
        if isinstance(cell, str):
            return f"not measured{self._mark(f'{name}: {cell}')}"
        mark = self._mark(f"{name}: {cell.note}") if cell.note else ""
        return f"{'yes' if cell.holds else '**no**'}: {cell.text}{mark}"

    def _mark(self, note: str) -> str:
        if note not in self._notes:
            self._notes.append(note)
        return f" [{self._notes.index(note) + 1}]"
