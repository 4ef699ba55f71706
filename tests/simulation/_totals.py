"""What happened in many runs: so that it can be seen that it did."""

from __future__ import annotations

import collections


class Totals:
    """What happened in all runs, as counts.

    Attributes:
      counts: by kind and name: the errands of each manner, and those that ended as wanted; their outcomes;
        the ends of the servers' connections, in the servers' own words; whatever else there was.
    """

    def __init__(self) -> None:
        self.counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def __str__(self) -> str:
        lines = []
        for kind, counter in self.counts.items():
            lines.append(f"{kind}: " + ", ".join(f"{count} {name}" for name, count in counter.most_common()))
        return "\n".join(lines)

    def count(self, kind: str, name: str, times: int = 1) -> None:
        self.counts[kind][name] += times

    def add(self, other: Totals) -> None:
        """Count what another one has counted."""
        for kind, counter in other.counts.items():
            self.counts[kind].update(counter)
