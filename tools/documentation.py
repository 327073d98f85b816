"""Write the parts of the documentation that are made and not typed: tables of measurements, commands, notebooks.

    python -m tools.documentation

A table stands in a page between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; what is between is written anew
from benchmarks/results. Two tutorials become notebooks beside their pages. Both are under version control, and tests
compare them. The commands become docs/reference/commands.md, which is not.
"""

from __future__ import annotations

import re
from pathlib import Path

from tools.adapter_tables import ADAPTER_TABLES
from tools.command_reference import command_reference
from tools.cost_tables import COST_TABLES
from tools.fine_tuning_tables import FINE_TUNING_TABLES
from tools.front_tables import FRONT_TABLES
from tools.notebooks import write_notebooks
from tools.replay_tables import REPLAY_TABLES
from tools.result_tables import RESULT_TABLES
from tools.search_tables import SEARCH_TABLES
from tools.worker_tables import WORKER_TABLES

DOCS = Path(__file__).parents[1] / "docs"
OF_SEARCHES = RESULT_TABLES | SEARCH_TABLES | REPLAY_TABLES | WORKER_TABLES
TABLES = OF_SEARCHES | COST_TABLES | ADAPTER_TABLES | FINE_TUNING_TABLES | FRONT_TABLES
PLACE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(\n<!-- end of table -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """Return the text of a page with each of its tables as the results have it."""
    return PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place['name']]()}\n{place[3]}", page)


def main() -> None:
    """Write what is not as it should be, and say what that was."""
    written = write_notebooks()
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text()
        if (fresh := with_tables(page)) != page:
            path.write_text(fresh)
            written.append(path)
    (DOCS / "reference" / "commands.md").write_text(command_reference())
    for path in written:
        print(f"{path.relative_to(DOCS.parent)}: written")


if __name__ == "__main__":
    main()
