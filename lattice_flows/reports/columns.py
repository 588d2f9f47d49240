"""Rows of words in columns."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """Write a line for each row, in columns that are flush left, or with `right` all but the first flush right.

    Example:
        >>> print(columns([("op", "CPU"), ("spectral_flow", "C++")]), end="")
        op             CPU
        spectral_flow  C++
        >>> print(columns([("observable", "value"), ("plaquette", "0.6978(4)")], right=True), end="")
        observable      value
        plaquette   0.6978(4)
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = [f"{'>' if right and place else '<'}{width}" for place, width in enumerate(widths)]
    return "".join("  ".join(map(format, row, forms)).rstrip() + "\n" for row in rows)
