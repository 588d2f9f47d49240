"""Being asked to stop: SIGTERM and SIGUSR1 let a run finish what it is at, write it down, and end."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Whether this process was asked to stop, since it began to `listen`.

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
