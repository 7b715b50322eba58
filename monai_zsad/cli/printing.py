"""How the commands print tables, facts and file sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

__all__ = ["JsonOption", "file_size", "print_facts", "print_json", "print_table"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""Option of every command that can print JSON in place of a table."""


def print_json(content: Any) -> None:
    """Print indented JSON with all letters as they are."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns, without lines around them, so that other programs can cut them.

    Args:
        head: names of the columns.
        rows: cells of each row, one for each column.
    """
    lines = [head, *rows]
    # The last column is not padded: it is the widest one, and a terminal would break it.
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        typer.echo("  ".join([*cells, line[-1]]).rstrip())


def print_facts(facts: Mapping[str, str]) -> None:
    """Print one fact per line: its name, then its value."""
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key.ljust(width)}  {value}".rstrip())


def file_size(size: int) -> str:
    """Return a number of bytes as MB or GB; ``"?"`` for 0, a size that is not known.

    Example:
        >>> file_size(2_300_000), file_size(934_000_000), file_size(2_500_000_000), file_size(0)
        ('2.3 MB', '934 MB', '2.50 GB', '?')
    """
    if not size:
        return "?"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"
