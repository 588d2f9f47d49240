"""Configurations of other programs: a run that starts from one, and files written from the ensemble of a run."""

import io
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lattice_flows.config import Config, loads
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, Given, files, read_configuration, write_configuration
from lattice_flows.io.chains import BLOCK
from lattice_flows.io.configurations import NOTHING_GIVEN
from lattice_flows.models import build_action, build_space
from lattice_flows.reports.configurations import space_of
from lattice_flows.reports.observe import links_of
from lattice_flows.reports.words import action_settings, short
from lattice_flows.runs.folder import CONFIG, load_run, name_of, sampled, write_config


def import_configuration(
    path: str | Path, folder: str | Path, overrides: Iterable[str] = (), given: Given = NOTHING_GIVEN
) -> Config:
    """Make the folder of a run that starts from the configuration in a gauge file; return its config.

    Group, extents and, without an override, precision are those of the file. The folder keeps a copy of it, or an ILDG
    file of the links where something is given. Updates are by default heat bath and over-relaxation, or HMC where the
    action is not Wilson's.

    Args:
        overrides: such as ``action.beta=6.0``, which no file states.
        given: what the file does not state, and the checks to ignore.

    Raises:
        InvalidInput: the file cannot be read, the settings do not fit, or the folder holds another run.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    path, folder = Path(path), Path(folder)
    links, facts = read_configuration(path, given)
    space, copy = space_of(facts), f"start.{facts['format'] if given == NOTHING_GIVEN else 'ildg'}"
    group, extents = space.group.name, space.lattice.extents
    lattice = f'[lattice]\ngroup = "{group}"\nextents = {list(extents)}\n'
    overrides = list(overrides)
    wilson = loads(lattice, str(path), overrides).action.name == "wilson"
    updates = '["heatbath", "overrelaxation*4"]' if wilson else '["hmc"]'
    rest = f'[training]\ndtype = "float{facts["precision"]}"\n[sampling]\nupdates = {updates}\nstart = "{copy}"\n'
    config = loads(lattice + rest, str(path), overrides)
    if build_space(config) != space:
        raise InvalidInput(f"group and extents are those of the file, {group} on {extents}: {path}")
    config, _ = build_action(config, str(path))
    files.make_folder(folder)
    with files.locked(folder):
        if (folder / CONFIG).exists():
            start = folder / copy
            if load_run(folder) == config and start.is_file() and torch.equal(read_configuration(start)[0], links):
                return config  # imported before
            raise InvalidInput(
                f"{folder} holds another run: lattice-flows sample {folder} goes on with it, --out takes another folder"
            )
        if given == NOTHING_GIVEN:
            files.write(folder / copy, path.read_bytes())
        else:  # a file that states all that was given
            write_configuration(folder / copy, links, "ildg", facts)
        write_config(folder, config)
    return config


def convert_configuration(path: str | Path, out: str | Path, form: str, given: Given = NOTHING_GIVEN) -> dict[str, Any]:
    """Write the configuration in a gauge file in another format; return the facts of `read_configuration`.

    Args:
        form: a format of `write_configuration`.
        given: what the file does not state, and the checks to ignore.

    Raises:
        InvalidInput: the file cannot be read, is the new one, or holds what the format cannot hold.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    links, facts = read_configuration(path, given)
    if Path(out).exists() and Path(out).samefile(path):
        raise InvalidInput(f"a file is not converted into itself: take another name than {out}")
    write_configuration(out, links, form, facts)
    return facts


def export_configuration(
    folder: str | Path, path: str | Path, form: str, chain: int = 0, update: int | None = None
) -> None:
    """Write a configuration of a run's ensemble to one file.

    Args:
        form: a format of `write_configuration`.
        update: the number of updates before it, by default of all stored ones.

    Raises:
        InvalidInput: nothing is sampled, no such configuration, or one that the format cannot hold.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    config, name, chains = _exported(Path(folder), gauge=True)
    number = chains.n_updates // chains.every * chains.every if update is None else update
    write_configuration(path, chains.configuration(chain, update), form, _words(config, name, chain, number))


def export_all(folder: str | Path, path: str | Path, form: str | None = None) -> int:
    """Write all configurations of a run's ensemble in order, each as often as the chains held it; return their number.

    Args:
        path: of one array `(n, chains, *shape)` for `numpy.load`, whose name ends in .npy. With a format, it is the
            folder of a file CHAIN.UPDATE for each configuration.
        form: a format of `write_configuration`.

    Raises:
        InvalidInput: nothing is sampled, another ending, or configurations that the format cannot hold.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    path = Path(path)
    if form is None and path.suffix != ".npy":
        raise InvalidInput(f"one array of all configurations ends in .npy, got {path}; --format makes single files")
    config, name, chains = _exported(Path(folder), gauge=form is not None)
    rows = chains.expand(np.arange(chains.n_distinct))  # (n, chains)
    if form is None:
        size = max(1, BLOCK // (chains.chains * chains.row_bytes))
        first = chains.read(np.arange(0))
        header = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(first.numpy().dtype)
        about = {"descr": descr, "fortran_order": False, "shape": (*rows.shape, *first.shape[1:])}
        np.lib.format.write_array_header_1_0(header, about)
        blocks = (_taken(chains, rows[start : start + size]) for start in range(0, len(rows), size))
        files.write_parts(path, itertools.chain([header.getvalue()], (block.tobytes() for block in blocks)))
        return rows.size
    files.make_folder(path)
    for t, row in enumerate(rows):
        for chain, links in enumerate(_taken(chains, row)):
            number = (t + 1) * chains.every
            words = _words(config, name, chain, number)
            write_configuration(path / f"{chain}.{number}", torch.from_numpy(links), form, words)
    return rows.size


def _exported(folder: Path, gauge: bool) -> tuple[Config, str, ChainFile]:
    """Return the config of an ensemble, the name of its run, and the ensemble."""
    if gauge:
        links_of(load_run(folder), "gauge files hold")
    chains = ChainFile(sampled(folder))
    return loads(chains.config, str(chains.path)), name_of(folder), chains


def _taken(chains: ChainFile, rows: np.ndarray) -> np.ndarray:
    """Return the configurations `(*rows.shape, *shape)` of rows in any order."""
    distinct, places = np.unique(rows, return_inverse=True)
    return chains.read(distinct).numpy()[places.reshape(rows.shape)]


def _words(config: Config, name: str, chain: int, number: int) -> dict[str, Any]:
    return {
        "ensemble_id": name,
        "ensemble_label": ", ".join(f"{key} {short(value)}" for key, value in action_settings(config).items()),
        "sequence_number": number,
        "lfn": f"{name}.{chain}.{number}",
    }
