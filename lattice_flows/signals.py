"""The end of a run before its time: it is asked to stop, or one of its ranks fails and ends the others.

SIGTERM and SIGUSR1 let a run finish what it is at, write it down, and end.
"""

import os
import signal
import sys
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

INTERRUPTED = 75
"""The exit code of a run that was asked to stop and can go on (EX_TEMPFAIL of sysexits.h): batch scripts requeue it."""

_GRACE = 4.0  # seconds for which the other ranks leave the word to rank 0, as all ranks fail of a wrong setting


class Stop:
    """Whether this process was asked to stop while it was in the block of this.

    A batch system sends a signal some time before it kills a job; the handler only takes note of it, and the run looks
    here between two steps.

    Example:
        >>> import os
        >>> stop = Stop()
        >>> with stop:
        ...     os.kill(os.getpid(), signal.SIGUSR1)
        ...     stop.asked
        True
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def end_all(code: int, why: str) -> None:
    """Ends all ranks of the world at once, after this one has said why; does nothing where there are no others.

    A rank that failed alone would leave the others waiting for it for ever. Rank 0 speaks first: where all of them
    have failed of the same, it is said once.
    """
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or mpi.Is_finalized() or mpi.COMM_WORLD.size == 1:
        return
    world = mpi.COMM_WORLD
    if world.rank:
        time.sleep(_GRACE)
    os.write(2, f"rank {world.rank} of {world.size}: {why}\n".encode())
    time.sleep(0.25)  # the launcher, which hands on what is written, ends with the ranks
    world.Abort(code)
    os._exit(code)  # MPICH may come back from there, until it is killed
