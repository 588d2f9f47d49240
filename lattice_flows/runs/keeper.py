"""The files of a run's chains, which rank 0 keeps: their ensemble, their thermalisation, and their costs."""

import contextlib
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from lattice_flows.config import Config, loads, resume_conflicts, to_toml
from lattice_flows.config.provenance import provenance
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, ChainWriter, MetricsFile, create_chains, files
from lattice_flows.io.tensors import load_checkpoint, save_checkpoint
from lattice_flows.models import Model, build_space, digest
from lattice_flows.reports.words import action_settings
from lattice_flows.runs.folder import COSTS, ENSEMBLE, THERMALISATION, check_same_run, read_costs, write_config
from lattice_flows.runs.samplers import Tuned
from lattice_flows.sampling import ChainState

TUNED = "tuned_"  # begins the names of the attributes of an ensemble that hold tuned steps


class Place(NamedTuple):
    """The progress of the chains of a run."""

    tuned: Tuned = {}  # noqa: RUF012  # never changed
    """The steps of samplers that tuning found."""
    dropped: int = 0
    """The number of updates of the thermalisation so far."""
    updates: int | None = None
    """The number of stored updates; None during the thermalisation."""
    offered: int = 0
    """The number of proposals of a flow that each chain has met."""


class Keeper:
    """The folder of a run, held for its chains.

    Args:
        is_new: the config did not come from the folder, which may not exist yet.
        model: the trained one, where updates need it.

    Attributes:
        place: the progress of the chains; None where there are none.
        state: of the chains and of their streams; None where there are none.

    Raises:
        InvalidInput: settings that contradict the run in the folder.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """

    def __init__(self, folder: Path, config: Config, is_new: bool, model: Model | None, device: torch.device):
        self.config, self.attributes = config, _attributes(config, model, device)
        self.path, self.thermalisation = folder / ENSEMBLE, folder / THERMALISATION
        self._writer: ChainWriter | None = None
        with contextlib.ExitStack() as held:
            files.make_folder(folder)
            held.enter_context(files.locked(folder))
            if is_new:
                check_same_run(folder, config)
            self.state, self.place = self._read()
            if is_new:
                write_config(folder, config)
            keep = 0 if self.place is None else len(read_costs(folder))
            self._costs = held.enter_context(MetricsFile(folder / COSTS, keep=keep))
            self._held = held.pop_all()

    def save_thermalisation(self, state: ChainState, streams: Tensor, tuned: Tuned, dropped: int) -> None:
        """Write chains that are not in equilibrium yet."""
        numbers = {"tuned": tuned, "dropped": dropped, "attributes": self.attributes}
        save_checkpoint(self.thermalisation, {"state": named(state), "streams": streams, **numbers})

    def create(self, state: ChainState, streams: Tensor, tuned: Tuned, proposals: int) -> None:
        """Make the ensemble of chains that are in equilibrium; each meets `proposals` of a flow in an update."""
        steps = {f"{TUNED}{name}_{key}": value for name, own in tuned.items() for key, value in own.items()}
        every = self.config.sampling.every
        create_chains(self.path, state, streams, self.attributes | steps, every=every, proposals=proposals)
        self.thermalisation.unlink(missing_ok=True)

    def append(self, rows: Iterable[dict[str, Tensor]]) -> None:
        """Add updates of all chains, to be committed: the fields of their states, and the `outcome` of `Chains`."""
        if self._writer is None:
            self._writer = self._held.enter_context(ChainWriter(self.path))
        for row in rows:
            state = ChainState(**{name: row[name] for name in ChainState._fields if name in row})
            proposals = {name.removeprefix("proposals/"): value for name, value in row.items() if "/" in name}
            self._writer.append(state, row["acceptance"], proposals or None)

    def commit(self, streams: Tensor) -> None:
        """Make the appended updates the content of the ensemble."""
        assert self._writer is not None
        self._writer.commit(streams)

    def spent(self, updates: int, made: int, cpu_seconds: float) -> None:
        """Record the cost of updates, on all ranks together."""
        self._costs.append({"updates": updates, "made": made, "cpu_seconds": cpu_seconds})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.close()

    def _read(self) -> tuple[tuple[ChainState, Tensor] | None, Place | None]:
        if self.path.exists():
            stored = ChainFile(self.path)
            self._check(stored.attributes, self.path)
            state, streams = stored.end()
            progress = _tuned(stored.attributes, self.config), self.config.sampling.dropped, stored.n_updates
        elif self.thermalisation.exists():
            content = load_checkpoint(self.thermalisation)
            self._check(content["attributes"], self.thermalisation)
            state, streams = ChainState(**content["state"]), content["streams"]
            progress = content["tuned"], content["dropped"], None
        else:
            return None, None
        return (state, streams), Place(*progress, 0 if state.offered is None else int(state.offered[0]))

    def _check(self, attributes: dict[str, Any], path: Path) -> None:
        """Refuse chains that cannot go on with these settings."""
        made = loads(attributes["config"], str(path))
        before, now = (dataclasses.asdict(config.sampling) for config in (made, self.config))
        pairs = [(key, before.get(key), now[key]) for key in now if key != "n"]
        # apart from the settings, which may have such names, too
        pairs += [(key, attributes.get(key), self.attributes.get(key)) for key in ("device", "step", "weights")]
        changes = [f"the chain was made with {key} {old}, not {new}" for key, old, new in pairs if old != new]
        changes += [f"the chain was made with other settings: {words}" for words in resume_conflicts(made, self.config)]
        if changes:
            raise InvalidInput(f"{changes[0]}: go on with that, or move the file away to start a new chain ({path})")


def named(state: ChainState) -> dict[str, Tensor]:
    """Return the fields of a state that are not None, by their names."""
    return {name: value for name, value in state._asdict().items() if value is not None}


def _tuned(attributes: dict[str, Any], config: Config) -> Tuned:
    """Read the tuned steps from the attributes of an ensemble."""
    # the longest name first: it may begin with the name of another update
    names = sorted(config.sampling.names, key=len, reverse=True)
    tuned: Tuned = {}
    for attribute, value in attributes.items():
        name = next((name for name in names if attribute.startswith(f"{TUNED}{name}_")), None)
        if name is not None:
            tuned.setdefault(name, {})[attribute.removeprefix(f"{TUNED}{name}_")] = value.item()
    return tuned


def _attributes(config: Config, model: Model | None, device: torch.device) -> dict[str, Any]:
    """Return the attributes of the ensemble of a run."""
    # the facts last: a setting of an action may be called as one of them
    theory = {**action_settings(config), **build_space(config).facts, "action": config.action.name}
    trained = {} if model is None else {"weights": digest(model.flow), "step": model.facts.step}
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in theory.items()},
        "config": to_toml(config),
        "seed": config.sampling.seed,
        "device": device.type,
        **trained,
        **provenance(),
    }
