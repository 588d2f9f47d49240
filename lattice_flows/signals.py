"""The early end of a run: by a request to stop, or by the failure of one of its ranks.

After SIGTERM or SIGUSR1 a run finishes its step, writes it down, and ends.
"""

import os
import signal
import sys
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

INTERRUPTED = 75
"""The exit code of a run that stops on request (EX_TEMPFAIL of sysexits.h): batch scripts requeue it."""

_GRACE = 4.0  # seconds before other ranks speak, as all ranks fail with rank 0 at a wrong setting


class Stop:
    """A context manager that notes whether the process is asked to stop inside its block.

    A batch system sends a signal some time before it kills a job. The handler only sets `asked`; the run reads it
    between two steps.

    Example:
        >>> import os
        >>> stop = Stop()
        >>> with stop:
        ...     os.kill(os.getpid(), signal.SIGUSR1)
        ...     stop.asked
        True
    """

    asked = False

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def end_all(code: int, why: str) -> None:
    """End all ranks of the world at once, after a line that says why; do nothing if there are no others.

    Without this, the others would wait for ever for a rank that failed. Rank 0 speaks first, so a common error is said
    once.
    """
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or mpi.Is_finalized() or mpi.COMM_WORLD.size == 1:
        return
    world = mpi.COMM_WORLD
    if world.rank:
        time.sleep(_GRACE)
    os.write(2, f"rank {world.rank} of {world.size}: {why}\n".encode())
    time.sleep(0.25)  # the launcher passes the line on, and ends with the ranks
    world.Abort(code)
    os._exit(code)  # MPICH may return from Abort
