"""The end of a training: the quality of its flow from fresh samples, in trained.json."""

from dataclasses import dataclass
from pathlib import Path

from lattice_flows.config.rules import Count
from lattice_flows.errors import InvalidInput
from lattice_flows.io import read_report, write_report
from lattice_flows.reports.words import ess_in_words, half_trained
from lattice_flows.training import Quality

TRAINED = "trained.json"


@dataclass(frozen=True, kw_only=True)
class Trained(Quality):
    """The quality of a flow where its training ended, by itself or because somebody said that it is enough."""

    step: Count
    """The number of steps of all stages."""
    stages: Count
    weights: str
    """The fingerprint of the flow."""

    def in_words(self) -> str:
        """Describe the quality in one line, and a second one if the ESS has no error.

        Example:
            >>> some = {"samples": 1024, "acceptance": 0.713, "seconds": 0.002, "step": 400, "stages": 1, "weights": ""}
            >>> Trained(ess=0.81234, ess_error=0.0123, **some).in_words()
            '1024 fresh samples of the whole flow: ESS 0.812(12), acceptance 0.71 expected, 0.002 s a sample\\n'
        """
        found = ess_in_words(self.ess, self.samples, self.ess_error)
        words = (
            f"{self.samples} fresh samples of the whole flow: ESS {found}, acceptance {self.acceptance:.2g} expected"
        )
        warning = f"ESS: {self.warning}\n" if self.warning else ""
        return f"{words}, {self.seconds:.2g} s a sample\n{warning}"


def read_trained(folder: Path) -> Trained | None:
    """Return the end of the training of a run; None where it has not ended.

    Raises:
        InvalidInput: the file is broken.
    """
    path = folder / TRAINED
    if not path.exists():
        return None
    try:
        return Trained.from_table(read_report(path), lambda key: key)
    except ValueError as error:
        raise InvalidInput(
            f"{TRAINED} is damaged, or of an earlier version: delete it, and lattice-flows train measures the flow "
            f"again ({path})"
        ) from error


def write_trained(folder: Path, trained: Trained) -> None:
    """Write the end of the training of a run."""
    write_report(folder / TRAINED, trained.table())


def unfinished(folder: Path, step: int, planned: int) -> str:
    """Say that a training has not come to its end, and what to do."""
    again = f"lattice-flows train {folder}/config.toml --out {folder}"
    if step == planned:
        return f"the flow is trained and not measured yet: {again} does that"
    return f"{half_trained(step, planned)}: {again} goes on, and with --steps {step} that is the end"
