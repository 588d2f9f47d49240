"""The command line: ``lattice-flows train | sample | measure | compare | show | export | import | ...``.

Commands import the rooms that they need when they run, so that ``--help`` does not wait for torch.
"""

import logging
import os
import sys
import traceback
from collections.abc import Sequence

from lattice_flows.cli.parser import make_parser
from lattice_flows.config import import_modules
from lattice_flows.errors import Interrupted, LatticeFlowsError
from lattice_flows.signals import INTERRUPTED, end_all

__all__ = ["main"]


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
        print(arguments.command(arguments), end="")
        sys.stdout.flush()
    except Interrupted as error:
        print(f"lattice-flows: {error}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output, such as head, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LatticeFlowsError, OSError) as error:
        line = f"lattice-flows: error: {' '.join(str(error).split())}"
        end_all(2, line)
        print(line, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nlattice-flows: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except Exception:
        end_all(1, traceback.format_exc())
        raise
    return 0
