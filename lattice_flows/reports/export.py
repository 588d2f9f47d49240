"""Series of a run in files for other programs: a table in CSV, or Obs of pyerrors in its own JSON."""

import csv
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, files
from lattice_flows.statistics import observables_to_pyerrors

Series = Mapping[str, np.ndarray]


def export_series(path: str | Path, chains: ChainFile, series: Series, ensemble: str) -> None:
    """Write series `(chains, n)` of the chains to FILE.csv, or as `pyerrors.Obs` to FILE.json.gz.

    `pyerrors.input.json.load_json_dict` reads the latter. It takes the fluctuations of every chain from that chain's
    own mean: chains that disagree do not enlarge its errors.

    Args:
        ensemble: the id of the ensemble for pyerrors.

    Raises:
        InvalidInput: another ending; for pyerrors, chains too short for an error.
        LatticeFlowsError: the file cannot be written.
    """
    files.write(Path(path), writer(path)(chains, series, ensemble))


def writer(path: str | Path) -> Callable[[ChainFile, Series, str], bytes]:
    """Return the function that packs series for a file; raise InvalidInput if its name has another ending."""
    for ending, pack in _WRITERS.items():
        if str(path).endswith(ending):
            return pack
    raise InvalidInput(f"series go to a file that ends in {' or '.join(_WRITERS)}, got {path}")


def _updates(chains: ChainFile) -> range:
    """The updates of the configurations."""
    return range(chains.every, chains.n_updates + 1, chains.every)


def _table(chains: ChainFile, series: Series, ensemble: str) -> bytes:
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(("chain", "update", *series))
    for k in range(chains.chains):
        columns = (own[k].tolist() for own in series.values())
        lines.writerows((k, *row) for row in zip(_updates(chains), *columns, strict=True))
    return text.getvalue().encode()


def _obs(chains: ChainFile, series: Series, ensemble: str) -> bytes:
    obs = observables_to_pyerrors(series, ensemble.replace("|", "_"), idl=list(_updates(chains)))
    from pyerrors.input.json import dump_dict_to_json

    # pyerrors writes in place: a file of ours appears whole or not at all
    with tempfile.TemporaryDirectory() as folder:
        dump_dict_to_json(obs, str(Path(folder, "obs")), _DESCRIPTION, indent=0)
        return Path(folder, "obs.json.gz").read_bytes()


_DESCRIPTION = "series of lattice_flows; idl: updates of the chains"
_WRITERS = {".csv": _table, ".json.gz": _obs}
