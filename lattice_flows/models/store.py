"""A trained model in one file, NAME.safetensors: its weights, and in the header its config and facts.

The header of the file maps text to text: ``format`` and ``format_version``, ``name``, ``config`` in TOML, and
``facts`` in JSON. The models of the package are the files beside this module. No code of a file is executed, and
modules that its config names under ``imports`` are not imported.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from lattice_flows.actions import Action
from lattice_flows.config import Config, loads, to_toml
from lattice_flows.config.rules import FINITE, Settings, Steps, at_least
from lattice_flows.config.text import parse_json
from lattice_flows.errors import InvalidInput, naming
from lattice_flows.flows import Flow
from lattice_flows.io import files, load_weights, read_about, save_weights
from lattice_flows.models.build import build_run, dtype

FORMAT = "lattice_flows model"
VERSION = "2"
SUFFIX = ".safetensors"
SHIPPED = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Facts(Settings):
    """Facts of a trained model."""

    version: str
    """The version of lattice_flows that wrote the file."""
    step: Steps
    """The number of training steps, with those of the model that the training began from."""
    training_cpu_minutes: Annotated[float, FINITE, at_least(0)]
    """The cost of these steps."""
    planned: Annotated[int, at_least(1)] | None = None
    """The number of steps that the training was to make, where it has not come to its end."""
    begun_from: str | None = None
    """The name of the model that the training began from."""
    proposals: Steps = 0
    """The number of independent proposals behind the effective sample size."""
    ess: Annotated[float, FINITE] | None = None
    ess_error: Annotated[float, FINITE] | None = None
    """None where the largest weights allow no error: the effective sample size is then mostly smaller."""


class Header(NamedTuple):
    """The header of a model file."""

    name: str
    config: Config
    facts: Facts


@dataclass(frozen=True)
class Model:
    """A trained flow, its action, its config and its facts."""

    flow: Flow
    action: Action
    config: Config
    name: str
    facts: Facts


def available() -> list[str]:
    """Return the names of the models that the package brings.

    Example:
        >>> all(load(name).name == name for name in available()[:1])
        True
    """
    return sorted(path.stem for path in SHIPPED.glob(f"*{SUFFIX}"))


def load(name_or_path: str | Path) -> Model:
    """Load a trained model: a name of the package's models, or the path of a file that ends in .safetensors.

    The flow is on the CPU, in the precision of its training.

    Raises:
        InvalidInput: no such model, a file that is broken or something else, or weights that do not fit its config.

    Example:
        >>> import tempfile
        >>> config = Config.of(
        ...     lattice={"group": "U(1)", "extents": (4, 4)},
        ...     action={"beta": 1.0},
        ...     flow={"architecture": "hierarchical"},
        ... )
        >>> _, flow, action = build_run(config, "example")
        >>> facts = Facts(version="0.1.0", step=0, training_cpu_minutes=0.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Model(flow, action, config, "untrained", facts), f"{folder}/untrained.safetensors")
        ...     model = load(f"{folder}/untrained.safetensors")
        >>> model.name, model.action, model.flow.sample(10).log_q.shape
        ('untrained', Wilson(GaugeField(U(1), 4x4), beta=1), torch.Size([10]))
    """
    path = find(name_or_path)
    header = read_header(path)
    config, flow, action = build_run(header.config, str(path))
    weights = load_weights(path)
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise InvalidInput(f"the weights of the model are not finite ({path})")
    try:
        flow.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split(":", 1)[-1].split())
        raise InvalidInput(f"the weights do not fit the config of the model: {reason[:200]} ({path})") from error
    return Model(flow.eval(), action, config, header.name, header.facts)


def save(model: Model, path: str | Path) -> None:
    """Write a model to a file; `load` reads it.

    Raises:
        InvalidInput: the name of the file does not end in .safetensors.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    check_suffix(path)
    about = {
        "format": FORMAT,
        "format_version": VERSION,
        "name": model.name,
        "config": to_toml(model.config),
        "facts": json.dumps({name: fact for name, fact in vars(model.facts).items() if fact is not None}),
    }
    save_weights(path, model.flow.state_dict(), about)


def check_suffix(path: str | Path) -> None:
    """Raise InvalidInput if the name of a file does not end in .safetensors."""
    if Path(path).suffix != SUFFIX:
        raise InvalidInput(f"the file of a model must end in {SUFFIX}, got {path}")


def check_weights(flow: Flow, config: Config, source: str | Path) -> None:
    """Raise InvalidInput if the config of a flow builds one with other parameters.

    A hierarchical flow can be carried to extents where its config has other designs of levels.
    """
    _, other, _ = build_run(config, str(source))
    own, built = ({name: w.shape for name, w in f.state_dict().items()} for f in (flow, other))
    if own != built:
        raise InvalidInput(
            "the flow was carried from other extents and has levels of other designs than its config gives: "
            f"train on these extents from the start, or sample it on one rank ({source})"
        )


def find(name_or_path: str | Path) -> Path:
    """Return the file of a model.

    Raises:
        InvalidInput: the package brings no model of this name.
    """
    name = str(name_or_path)
    if name.endswith(SUFFIX):
        return Path(name)
    if name not in available():
        raise InvalidInput(
            f"unknown model {name!r}, available: {', '.join(available()) or 'none'}; "
            f"or the path of a file that ends in {SUFFIX}"
        )
    return SHIPPED / f"{name}{SUFFIX}"


def read_header(path: str | Path) -> Header:
    """Read the header of a model file, without its weights.

    Raises:
        InvalidInput: a file that is broken, something else, or of another version.
    """
    about = read_about(path)
    files.check_format("a model", (about.get("format"), about.get("format_version")), (FORMAT, VERSION), path)
    if missing := {"name", "config", "facts"} - about.keys():
        raise InvalidInput(f"the header of the model has no {', '.join(sorted(missing))} ({path})")
    facts = parse_json(about["facts"], "the facts of the model must be a JSON object", path)
    config = loads(about["config"], str(path))
    return Header(about["name"], config, Facts.from_table(facts, lambda key: f"{path}: {key or 'facts'}"))


def carried(model: Model, config: Config, source: str) -> Flow:
    """Copy a model's flow for a config of the same field and ``[flow]``, if need be to another lattice.

    Errors name the `source` of the config.

    Raises:
        InvalidInput: another field, group or architecture, or a lattice or coupling that the flow cannot have.
    """
    before, now = _trained(model.config), _trained(config)
    conflicts = [
        f"{key} is {now[key]} and not {before[key]}" for key in before if before[key] != now.get(key, before[key])
    ]
    if conflicts:
        raise InvalidInput(f"the config does not fit the weights of {model.name}: {'; '.join(conflicts)} ({source})")
    if config.lattice.extents != model.config.lattice.extents:
        with naming(f"{source}: lattice, action"):
            flow = model.flow.on(config.lattice.extents).to(dtype(config))
            # a copy keeps the coupling that the model was asked for
            if (beta_input := getattr(flow, "beta_input", None)) is not None:
                beta_input.set(config.action.beta)
        return flow
    _, flow, _ = build_run(config, source)
    flow.load_state_dict(model.flow.state_dict())
    return flow


def _trained(config: Config) -> dict[str, Any]:
    """Return the settings that the weights of a flow belong to, by dotted keys."""
    lattice = {f"lattice.{key}": value for key, value in dataclasses.asdict(config.lattice).items() if key != "extents"}
    return lattice | {f"flow.{key}": value for key, value in dataclasses.asdict(config.flow).items()}


def digest(flow: Flow) -> str:
    """Return a fingerprint of the weights."""
    sha = hashlib.sha256()
    for tensor in flow.state_dict().values():
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
