"""Write the parts of the documentation that are made and not typed: tables of measurements, and the commands.

    python -m tools.documentation [--check]

A table stands in a page between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; what is between is written anew from
benchmarks/results. The commands become docs/reference/commands.md, which is not kept under version control. With ``--check``
nothing is written, and the exit status says whether a page's tables are those of the results.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tools.cost_tables import COST_TABLES
from tools.replay_tables import REPLAY_TABLES
from tools.result_tables import RESULT_TABLES

DOCS = Path(__file__).parents[1] / "docs"
TABLES = RESULT_TABLES | REPLAY_TABLES | COST_TABLES
PLACE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(\n<!-- end of table -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """Return the text of a page with each of its tables as the results have it."""
    return PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place['name']]()}\n{place[3]}", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a table is not what was measured"
    )
    only_check = parser.parse_args().check
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text()
        if (fresh := with_tables(page)) != page:
            stale.append(path)
            if not only_check:
                path.write_text(fresh)
    for path in stale:
        print(
            f"{path.relative_to(DOCS.parent)}: {'tables that are not what was measured' if only_check else 'written'}"
        )
    if not only_check:
        from tools.command_reference import command_reference  # it loads all commands

        (DOCS / "reference" / "commands.md").write_text(command_reference())
    sys.exit(only_check and bool(stale))


if __name__ == "__main__":
    main()
