"""The errors that the finite steps of gradient flows make in log w."""

from typing import NamedTuple

from torch import Tensor

from lattice_flows.reports.words import bracketed

LARGEST = 0.01
"""The errors that need no remedy."""


class Steps(NamedTuple):
    """The errors of log w by the steps of layers, see `step_errors` and `StochasticFlow.integration_errors`."""

    mean: float
    error: float
    """That of the mean."""
    deviation: float
    """Means are off by fewer of their standard deviations."""

    @classmethod
    def of(cls, errors: Tensor) -> "Steps":
        """The mean and the deviation of errors `(n,)`."""
        deviation = float(errors.std())
        return cls(float(errors.mean()), deviation / len(errors) ** 0.5, deviation)

    def in_words(self) -> str:
        """Describe the errors of a gradient flow in a line, with the remedy where they are large.

        Example:
            >>> print(Steps(mean=-0.0009, error=0.0002, deviation=0.0007).in_words())
            the steps of the flow change log w by -0.0009(2), with a standard deviation of 0.0007
        """
        mean, deviation = bracketed(self.mean, self.error), f"{self.deviation:.1g}"
        remedy = ": double flow.steps" if max(abs(self.mean), self.deviation) > LARGEST else ""
        return f"the steps of the flow change log w by {mean}, with a standard deviation of {deviation}{remedy}"
