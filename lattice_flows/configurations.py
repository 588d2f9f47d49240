"""Single configurations in NERSC and ILDG files: measured, taken out of runs, and made the beginning of runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from lattice_flows.columns import columns
from lattice_flows.config import Config, loads
from lattice_flows.errors import InvalidInput
from lattice_flows.flowed import STEP
from lattice_flows.folders import CONFIG, ENSEMBLE, load_run, sampled, write_config
from lattice_flows.groups import from_name
from lattice_flows.io import ChainFile, files, read_configuration, write_configuration
from lattice_flows.measurement import action_density, clover_charge, gradient_flow, standard_observables
from lattice_flows.models import build_action
from lattice_flows.report import LABELS

NAMES = ("plaquette", "wilson_loop_2x2", "polyakov_loop", "clover_charge")
WORDS = {"clover_charge": "clover charge"} | LABELS


def measure_configurations(paths: Sequence[str | Path], flow: float | None = None) -> str:
    """A table of single configurations in NERSC or ILDG files: what their headers state, verified, and observables.

    Args:
        flow: a time of the gradient flow, for the action density and the charge there.

    Raises:
        InvalidInput: a file cannot be read, or is of another format or damaged; or a flow time that is not finite and
            positive.
    """
    flowed = () if flow is None else (f"t^2 E at t = {flow:g}", f"Q at t = {flow:g}")
    rows = [("file", "format", "group", "sites", "verified", *(WORDS.get(name, name) for name in NAMES), *flowed)]
    for path in paths:
        links, facts = read_configuration(path)
        values = _values(links, facts["group"], facts["sites"])
        about = (str(path), facts["format"], facts["group"], "x".join(map(str, facts["sites"])))
        verified = ", ".join(facts["verified"]) or "nothing"
        cells = [f"{values[name]:.8f}" if name in values else "-" for name in NAMES]
        if flow is not None:
            cells += [f"{value:.8f}" for value in _flowed(links, facts["group"], flow)]
        rows.append((*about, verified, *cells))
    return columns(rows)


def _flowed(links: torch.Tensor, group_name: str, time: float) -> tuple[float, float]:
    group = from_name(group_name)
    smooth = gradient_flow(links, group, time, STEP, dim=4)
    return time**2 * float(action_density(group, dim=4)(smooth)), float(clover_charge(group)(smooth))


def _values(links: torch.Tensor, group_name: str, sites: Sequence[int]) -> dict[str, float]:
    group = from_name(group_name)
    observables = {**standard_observables(group, sites), "clover_charge": clover_charge(group)}
    return {name: float(observable(links)) for name, observable in observables.items()}


def measure_start(folder: str | Path, flow: float | None = None) -> str | None:
    """The table of the configuration that a run starts from, where it is a file and nothing is sampled yet.

    Args:
        flow: as for `measure_configurations`.

    Raises:
        InvalidInput: there is no run, or the file is broken.
    """
    folder = Path(folder)
    start = folder / (load_run(folder).sampling.start or "")
    return measure_configurations([start], flow) if start.is_file() and not (folder / ENSEMBLE).exists() else None


def export_configuration(
    folder: str | Path, path: str | Path, form: str, chain: int = 0, update: int | None = None
) -> None:
    """Writes a configuration of a run's ensemble to one file.

    Args:
        form: a format of `write_configuration`.
        update: after which; by default after the last that was stored.

    Raises:
        InvalidInput: nothing sampled there, no such configuration, or one that the format cannot hold.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    folder = Path(folder)
    load_run(folder)
    chains = ChainFile(sampled(folder))
    links = chains.configuration(chain, update)
    number = chains.n_updates // chains.every * chains.every if update is None else update
    words = {
        "ensemble_id": folder.resolve().name,
        "ensemble_label": f"beta {chains.attributes['beta']:g}",
        "sequence_number": number,
        "lfn": f"{folder.resolve().name}.{chain}.{number}",
    }
    write_configuration(path, links, form, words)


def import_configuration(path: str | Path, folder: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Makes the folder of a run whose chains start from the configuration in a NERSC or ILDG file; returns its config.

    Group and extents are those of the file, of which the folder keeps a copy, and so is the precision, unless overrides
    say otherwise. Updates are heat bath and over-relaxation, or HMC for other actions than Wilson's, by default.

    Args:
        overrides: such as ``action.beta=6.0``, which no file states.

    Raises:
        InvalidInput: the file cannot be read, settings that do not fit, or a folder that holds a run.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    path, folder = Path(path), Path(folder)
    _, facts = read_configuration(path)
    group, sites, copy = facts["group"], tuple(facts["sites"]), f"start.{facts['format']}"
    lattice = f'[lattice]\ngroup = "{group}"\nsites = {list(sites)}\n'
    precision = f'[training]\ndtype = "float{facts["precision"]}"\n'
    overrides = list(overrides)
    wilson = loads(lattice, str(path), overrides).action.name == "wilson"
    updates = '["heatbath", "overrelaxation*4"]' if wilson else '["hmc"]'
    start = f'[sampling]\nupdates = {updates}\nstart = "{copy}"\n'
    config = loads(f"{lattice}{precision}{start}", str(path), overrides)
    if (config.lattice.group, config.lattice.sites) != (group, sites):
        raise InvalidInput(f"group and extents are those of the file, {group} on {sites}: {path}")
    config, _ = build_action(config, str(path))
    files.make_folder(folder)
    with files.locked(folder):
        if (folder / CONFIG).exists():
            raise InvalidInput(f"{folder} holds a run: take another folder")
        files.write(folder / copy, path.read_bytes())
        write_config(folder, config)
    return config
