"""Errors that a person can act on: one line that names the value, the expectation and the remedy."""


class LatticeFlowsError(Exception):
    """Base of every error that input can cause; the command line prints it as one line, without a traceback."""


class InvalidInput(LatticeFlowsError, ValueError):
    """An argument, a setting or a file that does not fit: says what was given and what is expected."""


class NumericalFailure(LatticeFlowsError, ArithmeticError):
    """A computation that left the finite numbers: training that diverged, a decomposition that did not converge."""


class Interrupted(LatticeFlowsError):
    """A run that was asked to stop, and has written down everything that it needs to go on."""
