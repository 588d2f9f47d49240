"""What rank 0 keeps of the chains of a run: their ensemble, their thermalisation, and what they cost."""

import contextlib
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from lattice_flows.chains import Tuned
from lattice_flows.config import Config, loads, to_toml
from lattice_flows.errors import InvalidInput
from lattice_flows.folders import COSTS, ENSEMBLE, THERMALISATION, check_same_run, write_config
from lattice_flows.io import (
    ChainFile,
    ChainWriter,
    MetricsFile,
    create_chains,
    files,
    load_checkpoint,
    read_metrics,
    save_checkpoint,
)
from lattice_flows.models import Model, digest
from lattice_flows.provenance import provenance
from lattice_flows.runs.gather import Row, named
from lattice_flows.sampling import ChainState

TUNED = "tuned_"  # the attributes of an ensemble that say how its samplers were tuned


class Place(NamedTuple):
    """How far the chains of a run are."""

    tuned: Tuned = {}  # noqa: RUF012  # never changed
    """What was found for the steps of samplers."""
    dropped: int = 0
    """Updates of the thermalisation that are done."""
    updates: int | None = None
    """Updates that are stored; None before the thermalisation is over."""
    offered: int = 0
    """How many proposals of a flow each chain has met."""


class Keeper:
    """The folder of a run, held for its chains.

    Args:
        is_new: whether the config did not come from the folder, which may then be new.
        model: the trained one, where updates need it.

    Attributes:
        place: how far the chains are; None where there are none.
        state: where they stand, and their streams, if there are any.

    Raises:
        InvalidInput: settings that contradict the run in the folder.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """

    def __init__(self, folder: Path, config: Config, is_new: bool, model: Model | None, device: torch.device):
        self.folder, self.config = folder, config
        self.path, self.thermalisation = folder / ENSEMBLE, folder / THERMALISATION
        self.attributes = _attributes(config, model, device)
        self._writer: ChainWriter | None = None
        with contextlib.ExitStack() as held:
            files.make_folder(folder)
            held.enter_context(files.locked(folder))
            if is_new:
                check_same_run(folder, config)
            self.state: tuple[ChainState, Tensor] | None = None
            self.place: Place | None = None
            self._read()
            if is_new:
                write_config(folder, config)
            keep = 0 if self.place is None else len(read_metrics(folder / COSTS))
            self._costs = held.enter_context(MetricsFile(folder / COSTS, keep=keep))
            self._held = held.pop_all()

    def save_thermalisation(self, state: ChainState, streams: Tensor, place: Place) -> None:
        """Writes down chains that are not in equilibrium yet."""
        numbers = {"tuned": place.tuned, "dropped": place.dropped, "attributes": self.attributes}
        save_checkpoint(self.thermalisation, {"state": named(state), "streams": streams, **numbers})

    def create(self, state: ChainState, streams: Tensor, tuned: Tuned, proposals: int) -> None:
        """Makes the ensemble of chains that are in equilibrium.

        Args:
            proposals: how many proposals of a flow each chain meets in an update.
        """
        attributes = self.attributes | {f"{TUNED}{name}": value for name, value in tuned.items()}
        every = self.config.sampling.every
        create_chains(self.path, state, streams, attributes, every=every, proposals=proposals)
        self.thermalisation.unlink(missing_ok=True)

    def append(self, rows: Iterable[Row]) -> None:
        """Adds updates of all chains, to be committed."""
        if self._writer is None:
            self._writer = self._held.enter_context(ChainWriter(self.path))
        for row in rows:
            self._writer.append(*row)

    def commit(self, streams: Tensor) -> None:
        """Makes what was appended the content of the ensemble."""
        assert self._writer is not None
        self._writer.commit(streams)

    @property
    def updates(self) -> int:
        """How many updates are stored."""
        return len(ChainFile(self.path)) if self.path.exists() else 0

    def spent(self, updates: int, made: int, cpu_seconds: float) -> None:
        """Notes what updates cost, on all ranks together."""
        self._costs.append({"updates": updates, "made": made, "cpu_seconds": cpu_seconds})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.close()

    def _read(self) -> None:
        if self.path.exists():
            stored = ChainFile(self.path)
            if "n_proposals" in stored.attributes:
                raise InvalidInput(
                    f"a chain of an earlier version can be measured, and not go on: move it away ({self.path})"
                )
            self._check(stored.attributes, self.path)
            tuned = {
                name.removeprefix(TUNED): value.item()
                for name, value in stored.attributes.items()
                if name.startswith(TUNED)
            }
            self.state, dropped, updates = stored.end(), self.config.sampling.dropped, stored.n_updates
        elif self.thermalisation.exists():
            content = load_checkpoint(self.thermalisation)
            self._check(content["attributes"], self.thermalisation)
            tuned, dropped, updates = content["tuned"], content["dropped"], None
            self.state = ChainState(**content["state"]), content["streams"]
        else:
            return
        offered = self.state[0].offered
        self.place = Place(tuned, dropped, updates, 0 if offered is None else int(offered[0]))

    def _check(self, attributes: dict[str, Any], path: Path) -> None:
        """Refuses chains that cannot go on with these settings."""
        made = dict(attributes)
        before, now = (dataclasses.asdict(c.sampling) for c in (loads(made["config"], str(path)), self.config))
        before, now = before | made, now | self.attributes
        for key in [*dataclasses.asdict(self.config.sampling), "device", "step", "weights"]:
            if key != "n" and before.get(key) != now.get(key):
                raise InvalidInput(
                    f"the chain was made with {key} {before.get(key)}, not {now.get(key)}: "
                    f"go on with that, or move the file away to start a new chain ({path})"
                )


def _attributes(config: Config, model: Model | None, device: torch.device) -> dict[str, Any]:
    """What an ensemble remembers of its run."""
    trained = {} if model is None else {"weights": digest(model.flow), "step": model.facts.step}
    return {
        "group": config.lattice.group,
        "sites": list(config.lattice.sites),
        "action": config.action.name,
        "beta": config.action.beta,
        "config": to_toml(config),
        "seed": config.sampling.seed,
        "device": device.type,
        **trained,
        **provenance(),
    }
