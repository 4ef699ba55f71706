"""``python -m tests.proof write REPORT`` makes the table of docs/explanation/proof.md, ``check`` compares it.

REPORT is what ``pytest --sweep-report=REPORT`` has written in a run of all tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.proof._table import PAGE, complaints, drawn, rows_of, with_table


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in ("write", "check"):
        print(__doc__)
        return 2
    rows = rows_of(Path(arguments[1]))
    page = PAGE.read_text("utf-8")
    if arguments[0] == "write":
        page = with_table(page, drawn(rows))
        PAGE.write_text(page, "utf-8")
    wrong = complaints(rows, page)
    print("\n".join([drawn(rows).splitlines()[0], *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
