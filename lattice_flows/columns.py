"""Rows of words as columns."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]]) -> str:
    """A line for each row, its words below those of the row before.

    Example:
        >>> print(columns([("op", "CPU"), ("spectral_flow", "C++")]), end="")
        op             CPU
        spectral_flow  C++
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)
