"""The command line: ``lattice-flows train | sample | measure | compare | show | export | import | convert | ...``.

Commands import the rooms that they need when they run, so that ``--help`` does not wait for torch.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence

from lattice_flows.cli.parser import make_parser
from lattice_flows.config import import_modules
from lattice_flows.config.text import printable
from lattice_flows.errors import Interrupted, LatticeFlowsError, SomeFailed
from lattice_flows.signals import INTERRUPTED, end_all

__all__ = ["main"]

OUT_OF_MEMORY = "take a smaller batch, fewer chains, a smaller lattice, or several ranks"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 2 for a user's mistake, 75 when asked to stop, 130 for Ctrl-C."""
    # argparse leaves over the overrides that stand behind an option: train CONFIG --out FOLDER training.steps=500
    arguments, rest = make_parser().parse_known_args(argv)
    if rest and (not hasattr(arguments, "overrides") or any(word.startswith("-") for word in rest)):
        arguments.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    elif rest:
        arguments.overrides += rest
    logging.basicConfig(level=logging.WARNING, format="lattice-flows: %(message)s")
    logging.getLogger("lattice_flows").setLevel(logging.INFO)
    try:
        import_modules(getattr(arguments, "imports", ()), "command line: --import")
        _say(arguments.command(arguments))
    except SomeFailed as some:
        _say(some.answer)
        for error in some.errors:
            print(_error_line(error), file=sys.stderr)
        return 2
    except Interrupted as error:
        print(f"lattice-flows: {error}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("\nlattice-flows: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if not isinstance(error, LatticeFlowsError | OSError):
            if not _out_of_memory(error):
                end_all(1, traceback.format_exc())
                raise
            error = LatticeFlowsError(f"not enough memory: {OUT_OF_MEMORY} ({error})")
        line = _error_line(error)
        end_all(2, line)
        print(line, file=sys.stderr)
        return 2
    return 0


def _error_line(error: Exception) -> str:
    return f"lattice-flows: error: {printable(' '.join(str(error).split()))}"


def _out_of_memory(error: Exception) -> bool:
    """Whether Python, or torch with its RuntimeErrors, asked the system for more memory than there is."""
    return isinstance(error, MemoryError) or bool(re.search("(allocate|out of|enough) memory", str(error)))


def _say(text: str) -> None:
    """Print text, with escapes for what the terminal cannot show."""
    if sys.stdout is None:  # closed
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(printable(text, keep="\n").encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it ends
        if isinstance(error, BrokenPipeError):  # the reader of the output, such as head, has left
            sys.exit(1)
        raise LatticeFlowsError(f"cannot write the output: {error.strerror}") from error
