"""Trained models and run folders: a folder made from a model, and a model file made from a run."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from lattice_flows import models, training
from lattice_flows.config import Config, loads, resume_conflicts, to_toml
from lattice_flows.config.provenance import provenance
from lattice_flows.config.text import printable
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.io import files
from lattice_flows.lattice import Lattice
from lattice_flows.models import Model, carried, digest
from lattice_flows.models.store import check_suffix, check_weights
from lattice_flows.runs.folder import (
    CHECKPOINT,
    CONFIG,
    MODEL,
    beginning,
    load_model,
    load_run,
    overridden,
    trained_model,
)
from lattice_flows.sampling.independence import FlowSettings
from lattice_flows.statistics import estimate_ess
from lattice_flows.streams import keyed


def start_run(
    source: str | Path,
    folder: str | Path,
    lattice: Lattice | Sequence[int] | None = None,
    overrides: Iterable[str] = (),
) -> None:
    """Make the folder of a run from a trained model, to be sampled or trained further.

    A folder that was made so before stays as it is.

    Args:
        source: as in `load_model`.
        lattice: another one, to carry the flow to.
        overrides: of the coming sampling; they are checked, and not kept.

    Raises:
        InvalidInput: no such model, a lattice that it cannot have, or another run in the folder.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder = Path(folder)
    model = load_model(source)
    config = model.config
    if lattice is not None:
        try:
            config = config.having(lattice={"extents": Lattice(lattice).extents})
        except InvalidInput as error:
            raise InvalidInput(f"{error} (command line)") from None
    # the folder is to import no module that a model alone names
    config = dataclasses.replace(config, imports=tuple(name for name in config.imports if name in sys.modules))
    flow = carried(model, config, "command line")
    text = to_toml(config, provenance())
    overridden(config, loads(text, str(folder / CONFIG), overrides))  # before anything is written
    files.make_folder(folder)
    with files.locked(folder):
        if (folder / CONFIG).exists():
            _check_same_model(folder, config, flow)
        else:
            models.save(model, folder / MODEL)
            files.write(folder / CONFIG, text.encode())


def _check_same_model(folder: Path, config: Config, flow: Flow) -> None:
    stored = beginning(folder, load_run(folder))
    differences = resume_conflicts(stored.config, config)
    if not differences and (folder / CHECKPOINT).exists():
        differences.append("it was trained further")
    elif not differences and (stored.model is None or digest(stored.flow) != digest(flow)):
        differences.append("it has other weights")
    if differences:
        raise InvalidInput(
            f"{folder} holds another run than that of the model: {'; '.join(differences)}; "
            f"lattice-flows sample {folder} goes on with it, --out takes another folder"
        )


def export_run(folder: str | Path, path: str | Path, proposals: int = 10_000) -> Model:
    """Write the trained model of a run to one file, with the effective sample size of fresh proposals.

    Args:
        path: the file; its name without .safetensors becomes that of the model.
        proposals: their number.

    Raises:
        InvalidInput: nothing is trained, a broken file, or a name that does not end in .safetensors.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    check_suffix(path)
    if proposals < 2:
        raise InvalidInput(f"an effective sample size takes at least 2 proposals, got {proposals}")
    config = load_run(Path(folder))
    device = training.select_device(config.training.device)
    model = trained_model(folder, config, device)
    check_weights(model.flow, model.config, folder)
    generator = keyed(config.sampling.seed, "export", device=device)
    log_w = []
    with tqdm(total=proposals, desc="measuring", unit="conf", disable=None) as bar, torch.no_grad():
        # updates other than those of the flow itself have no batch
        for batch in torch.arange(proposals).split(getattr(config.sampling, "batch", FlowSettings.batch)):
            x, log_q = model.flow.sample(len(batch), generator=generator)
            log_w.append(-model.action(x).double() - log_q.double())
            bar.update(len(batch))
    weights = torch.cat(log_w).cpu()
    share = estimate_ess(weights)
    error = None if math.isnan(share.error) else share.error
    version = provenance()["version"]
    facts = dataclasses.replace(model.facts, version=version, proposals=proposals, ess=share.value, ess_error=error)
    model = dataclasses.replace(model, name=printable(Path(path).stem), facts=facts)
    models.save(model, path)
    return model
