"""The files of a run's chains, which rank 0 keeps: their ensemble, their thermalisation, and their costs."""

import contextlib
import dataclasses
import itertools
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from lattice_flows.config import Config, loads, resume_conflicts, to_toml
from lattice_flows.config.provenance import provenance
from lattice_flows.errors import InvalidInput
from lattice_flows.io import (
    ChainFile,
    ChainWriter,
    MetricsFile,
    create_chains,
    files,
    load_checkpoint,
    save_checkpoint,
)
from lattice_flows.io.chain_layout import COLUMNS
from lattice_flows.models import Model, build_space, digest
from lattice_flows.reports.tuning import Tuned, read_tuned, tuned_attributes
from lattice_flows.reports.words import action_settings
from lattice_flows.runs.folder import (
    COSTS,
    ENSEMBLE,
    REPORT,
    THERMALISATION,
    check_same_run,
    read_costs,
    write_config,
)
from lattice_flows.sampling import ChainState


class Place(NamedTuple):
    """The progress of the chains of a run."""

    tuned: Tuned = {}  # noqa: RUF012  # never changed
    """The numbers of samplers that tuning found."""
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
        anew: keep the chains that are there under other names, and begin without them.
        model: the trained one, where updates need it.

    Attributes:
        place: the progress of the chains; None where there are none.
        state: of the chains and of their streams; None where there are none.

    Raises:
        InvalidInput: settings that contradict the run in the folder.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """

    def __init__(
        self, folder: Path, config: Config, is_new: bool, anew: bool, model: Model | None, device: torch.device
    ):
        self.config, self.attributes = config, _attributes(config, model, device)
        self.path, self.thermalisation = folder / ENSEMBLE, folder / THERMALISATION
        self._writer: ChainWriter | None = None
        with contextlib.ExitStack() as held:
            files.make_folder(folder)
            held.enter_context(files.locked(folder))
            if is_new:
                check_same_run(folder, config)
            if anew:
                set_aside(folder)
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
        attributes, every = self.attributes | tuned_attributes(tuned), self.config.sampling.every
        pairs = len(self.config.tempering.betas or (0,)) - 1
        create_chains(self.path, state, streams, attributes, every=every, proposals=proposals, pairs=pairs)
        self.thermalisation.unlink(missing_ok=True)

    def append(self, rows: Iterable[dict[str, Tensor]]) -> None:
        """Add updates of all chains, to be committed: the fields of their states, and the `outcome` of `Chains`."""
        if self._writer is None:
            self._writer = self._held.enter_context(ChainWriter(self.path))
        for row in rows:
            state = ChainState(**{name: row[name] for name in ChainState._fields if name in row})
            proposals, swaps = (
                {name.removeprefix(f"{group}/"): value for name, value in row.items() if name.startswith(f"{group}/")}
                for group in COLUMNS
            )
            self._writer.append(state, row["acceptance"], proposals, swaps)

    def commit(self, streams: Tensor) -> None:
        """Make the appended updates the content of the ensemble."""
        assert self._writer is not None
        self._writer.commit(streams)

    def spent(self, updates: int, made: int, cpu_seconds: float) -> None:
        """Record the cost of updates, on all ranks together."""
        wanted = self.config.sampling.n * self.config.sampling.every
        self._costs.append({"updates": updates, "made": made, "cpu_seconds": cpu_seconds, "wanted": wanted})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._held.close()

    def _read(self) -> tuple[tuple[ChainState, Tensor] | None, Place | None]:
        if self.path.exists():
            stored = ChainFile(self.path)
            self._check({**stored.attributes, "config": stored.config}, self.path)
            state, streams = stored.end()
            tuned, dropped = read_tuned(stored.attributes, self.config), self.config.sampling.dropped
            updates: int | None = stored.n_updates
        elif self.thermalisation.exists():
            content, updates = load_checkpoint(self.thermalisation), None
            try:
                self._check(content["attributes"], self.thermalisation)
                state, streams = ChainState(**content["state"]), content["streams"]
                tuned, dropped = content["tuned"], content["dropped"]
            except (AttributeError, KeyError, TypeError) as error:
                raise InvalidInput(
                    f"the state of a thermalisation is expected, {error} is missing or wrong: "
                    f"restore it from a copy, or remove it to start again ({self.thermalisation})"
                ) from error
        else:
            return None, None
        offered = 0 if state.offered is None else int(state.offered[0])
        return (state, streams), Place(tuned, dropped, updates, offered)

    def _check(self, attributes: dict[str, Any], path: Path) -> None:
        """Refuse chains that cannot go on with these settings."""
        made = loads(attributes["config"], str(path))
        before, now = (dataclasses.asdict(config.sampling) for config in (made, self.config))
        pairs = [("sampling", key, before.get(key), now[key]) for key in now if key != "n"]
        pairs.append(("training", "device", attributes.get("device"), self.attributes["device"]))
        for section, key, old, new in pairs:
            if old != new:
                value = old if isinstance(old, str) else json.dumps(old)
                override = shlex.quote(f"{section}.{key}={value}")
                remedy = f"leave {section}.{key} out" if old is None else f"{override} goes on with it"
                raise _other_chain(f"{key} {old}, not {new}", f"{remedy}, ", path)
        own = self.attributes
        if any(attributes.get(key) != own.get(key) for key in ("step", "weights")):
            raise _other_chain(f"weights of step {attributes.get('step')}, not {own.get('step')}", "", path)
        for words in resume_conflicts(made, self.config):
            raise _other_chain(f"other settings: {words}", "put that back in config.toml to go on, or ", path)


def _other_chain(words: str, remedy: str, path: Path) -> InvalidInput:
    """Return the error of chains that cannot go on; `--new` is always a way out."""
    kept = _numbered(path.name, _number(path.parent))
    return InvalidInput(
        f"the chain was made with {words}: {remedy}--new keeps it as {kept} and starts another ({path})"
    )


def set_aside(folder: Path) -> None:
    """Keep the chains of a run and their report under free names, such as ensemble.1.h5.

    The chains are last, so that the same call goes on after a kill.
    """
    number = _number(folder)
    chains = ENSEMBLE if (folder / ENSEMBLE).exists() else THERMALISATION
    for name in (REPORT, "report.txt", "figures", COSTS, chains):
        if (folder / name).exists():
            with files.writing(folder / name):
                (folder / name).rename(folder / _numbered(name, number))
    files.sync(folder)


def _number(folder: Path) -> int:
    taken = {path.name for path in folder.iterdir()}
    return next(k for k in itertools.count(1) if not taken & {_numbered(ENSEMBLE, k), _numbered(THERMALISATION, k)})


def _numbered(name: str, number: int) -> str:
    return f"{Path(name).stem}.{number}{Path(name).suffix}"


def named(state: ChainState) -> dict[str, Tensor]:
    """Return the fields of a state that are not None, by their names."""
    return {name: value for name, value in state._asdict().items() if value is not None}


def _attributes(config: Config, model: Model | None, device: torch.device) -> dict[str, Any]:
    """Return the attributes of the ensemble of a run."""
    # the facts last: a setting of an action may be called as one of them
    theory = {**action_settings(config), **build_space(config).facts, "action": config.action.name}
    trained = {} if model is None else {"weights": digest(model.flow), "step": model.facts.step}
    if model is not None and model.facts.planned is not None:
        trained["planned"] = model.facts.planned
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in theory.items()},
        "config": to_toml(config),
        "seed": config.sampling.seed,
        "device": device.type,
        **trained,
        **provenance(),
    }
