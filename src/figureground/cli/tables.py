"""Tables in the terminal: whatever stands in a cell is shown, and does nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from figureground.core.escaping import one_line


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", numbers: bool = False
) -> None:
    """Print a table.

    Args:
        head: Headings of its columns.
        rows: Cells, as many in each row as there are columns.
        title: What stands above it.
        numbers: Whether all columns but the first hold numbers, which stand to the right.
    """
    # Below: files that print tables are loaded for every command.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Of a `Text` rich takes nothing for markup, nor for the name of a symbol.
    table = Table(title=Text(one_line(title), "table.title") if title else None)
    for number, heading in enumerate(head):
        justify = "right" if numbers and number else "left"
        table.add_column(Text(one_line(heading)), justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    Console().print(table)
