"""Rows of words as columns."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """A line for each row, its words below those of the row before; with `right`, flush right but for the first.

    Example:
        >>> print(columns([("op", "CPU"), ("spectral_flow", "C++")]), end="")
        op             CPU
        spectral_flow  C++
        >>> print(columns([("observable", "value"), ("plaquette", "0.6978(4)")], right=True), end="")
        observable      value
        plaquette   0.6978(4)
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            word.rjust(width) if right and place else word.ljust(width)
            for place, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)
