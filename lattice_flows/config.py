"""Settings of a run: frozen dataclasses from a TOML file, with dotted overrides such as ``training.steps=500``."""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from lattice_flows.errors import InvalidInput
from lattice_flows.settings import FINITE, POSITIVE, Rule, Settings, at_least

Positive = Annotated[float, FINITE, POSITIVE]
Count = Annotated[int, at_least(1)]
Steps = Annotated[int, at_least(0)]
Seed = Annotated[int, Rule("from 0 to 2^63 - 1", lambda v: 0 <= v < 2**63)]
Sites = Annotated[tuple[int, ...], Rule("2 to 4 extents, each >= 2", lambda v: 2 <= len(v) <= 4 and min(v) >= 2)]
Designs = Annotated[tuple[str, ...], Rule('designs of levels, such as ["crab", "c"]', lambda v: bool(v and all(v)))]
Widths = Annotated[tuple[int, ...], Rule("widths, each >= 1", lambda v: all(width >= 1 for width in v))]
Range = Annotated[tuple[float, ...], Rule("two couplings, 0 < low < high", lambda v: len(v) == 2 and 0 < v[0] < v[1])]
UPDATES = ("flow", "heatbath", "overrelaxation", "hmc", "metropolis", "transformed")
_UPDATE = re.compile(rf"({'|'.join(UPDATES)})(?:\*([1-9]\d*))?")
Updates = Annotated[
    tuple[str, ...],
    Rule(
        f"a list of {', '.join(UPDATES)}, each alone or as heatbath*4",
        lambda v: bool(v) and all(_UPDATE.fullmatch(entry) for entry in v),
    ),
]
Device = Annotated[str, Rule("auto, cpu, cuda or cuda:k", lambda v: bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", v)))]


@dataclass(frozen=True, kw_only=True)
class LatticeConfig(Settings):
    """``[lattice]``: the gauge group, ``U(1)`` or ``SU(N)``, and the periodic extents in lattice units."""

    group: str
    sites: Sites

    def __post_init__(self) -> None:
        super().__post_init__()
        if short := re.fullmatch(r"(S?U)(\d+)", self.group):
            object.__setattr__(self, "group", f"{short[1]}({short[2]})")


@dataclass(frozen=True, kw_only=True)
class ActionConfig(Settings):
    """``[action]``: which action, and its coupling beta."""

    name: Literal["wilson", "symanzik", "iwasaki", "dbw2"] = "wilson"
    beta: Positive


@dataclass(frozen=True, kw_only=True)
class FlowConfig(Settings):
    """``[flow]``: the architecture; ``auto`` is stripes in two dimensions and checkerboard in three and four.

    ``layers`` and ``kernel_size`` belong to these two, ``levels`` and ``beta_range`` to the hierarchical architecture.
    A flow with a ``beta_range`` is trained at couplings all over it, and then asked for that of ``[action]``.
    """

    architecture: Literal["auto", "stripes", "checkerboard", "hierarchical"] = "auto"
    layers: Count = 16
    levels: Designs = ("cab", "c")
    beta_range: Range | None = None
    bins: Annotated[int, at_least(2)] = 8
    hidden: Widths = (16, 16)
    kernel_size: Annotated[int, Rule("odd and >= 1", lambda v: v >= 1 and v % 2 == 1)] = 3


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """``[training]``: reverse KL with Adam or SOAP, linear warm-up and a cosine schedule that ends at ``steps``.

    A hierarchical flow can be trained level by level first, ``level_steps`` steps of ``level_batch`` rectangles each,
    on the exact density that the Wilson action gives a level: by likelihood and then path gradients of both
    divergences, or by least squares of the log-ratio. ``steps`` steps of the whole flow follow.

    With ``anneal_steps``, beta rises from ``beta_start`` to its value in ``[action]`` over that many steps. Gradients
    are clipped to the norm ``clip``; ``max_bad_steps`` steps in a row without a finite loss end the training.

    Every batch is cut into ``shards`` with random numbers of their own, which the ranks of an MPI world share: what a
    run gives does not depend on how many there are, up to ``shards``.
    """

    steps: Steps = 1000
    level_steps: Steps = 0
    level_batch: Count = 1024
    level_learning_rate: Positive = 0.01
    level_estimator: Literal["path", "log_ratio"] = "path"
    batch: Count = 128
    learning_rate: Positive = 1e-3
    warmup: Steps = 0
    clip: Positive = 10.0
    optimizer: Literal["adam", "soap"] = "adam"
    estimator: Literal["reparametrisation", "path", "reinforce"] = "path"
    beta_start: Annotated[float, FINITE, at_least(0)] | None = None
    anneal_steps: Steps = 0
    dtype: Literal["float32", "float64"] = "float32"
    device: Device = "auto"
    seed: Seed = 0
    shards: Count = 16
    checkpoint_every: Count = 100
    max_bad_steps: Count = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps + self.level_steps == 0:
            raise InvalidInput("steps and level_steps must not both be 0")
        if (self.anneal_steps > 0) != (self.beta_start is not None):
            raise InvalidInput(
                "annealing needs both beta_start and anneal_steps >= 1, "
                f"got beta_start {self.beta_start} and anneal_steps {self.anneal_steps}"
            )


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Settings):
    """``[sampling]``: Markov chains side by side, each of which stores ``n`` configurations, ``every`` updates apart.

    An update is the whole cycle ``updates``, such as ``["flow", "overrelaxation*4", "heatbath"]``: ``flow`` (a proposal
    of the trained flow), ``heatbath``, ``overrelaxation``, ``hmc``, ``metropolis``, or ``transformed`` (HMC in the
    latent links of the trained flow), whose proposals are drawn ``batch`` at a time. An HMC trajectory of length
    ``trajectory`` has ``hmc_steps`` steps; with 0, as many as make 0.8 of the trajectories accepted.

    The chains ``start`` hot, cold, or at the configuration in a NERSC or ILDG file; by default at proposals of the flow
    where ``updates`` use it, and else hot. ``thermalise`` updates are dropped first, during which HMC and Metropolis
    are tuned: by default none where the flow alone proposes, and else 200.
    """

    updates: Updates = ("flow",)
    chains: Count = 1
    n: Count = 10_000
    every: Count = 1
    thermalise: Steps | None = None
    start: str | None = None
    trajectory: Positive = 1.0
    hmc_steps: Steps = 0
    batch: Count = 500
    seed: Seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if {name for name, _ in self.cycle} == {"overrelaxation"}:
            raise InvalidInput("over-relaxation keeps the action and needs another update, such as heatbath, beside it")

    @property
    def cycle(self) -> tuple[tuple[str, int], ...]:
        """The updates in order, each with how often it is made: ``overrelaxation*4`` is four, as is listing it so."""
        matches = [_UPDATE.fullmatch(entry) for entry in self.updates]
        return tuple((match[1], int(match[2] or 1)) for match in matches if match)

    @property
    def uses_flow(self) -> bool:
        """Whether an update needs a trained flow."""
        return any(name in ("flow", "transformed") for name, _ in self.cycle)

    @property
    def dropped(self) -> int:
        """How many updates are dropped first."""
        if self.thermalise is None:
            return 0 if all(name == "flow" for name, _ in self.cycle) else 200
        return self.thermalise


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of one run.

    Example:
        >>> config = Config(lattice=LatticeConfig(group="SU3", sites=(8, 8)), action=ActionConfig(beta=4))
        >>> config.lattice.group, config.action.beta, config.flow.architecture
        ('SU(3)', 4.0, 'stripes')
    """

    lattice: LatticeConfig
    action: ActionConfig
    flow: FlowConfig = FlowConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()

    def __post_init__(self) -> None:
        if self.flow.architecture == "auto":
            fits: Literal["stripes", "checkerboard"] = "stripes" if len(self.lattice.sites) == 2 else "checkerboard"
            object.__setattr__(self, "flow", dataclasses.replace(self.flow, architecture=fits))
        if self.flow.beta_range is not None and self.training.beta_start is not None:
            raise InvalidInput(
                "a flow with a beta_range is trained at all its couplings: it cannot be annealed as well"
            )


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """The config in a TOML file, after overrides such as ``training.steps=500``.

    Values of overrides are TOML; what is not TOML is taken as a string, so ``lattice.group=SU(3)`` needs no quotes.
    A ``[provenance]`` section, which run folders have, is ignored.

    Raises:
        InvalidInput: in one line that names the value, what is expected, the file and the dotted key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot read the config: {error.strerror} ({path})") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"a config must be TOML, in UTF-8 ({path})") from error
    return loads(text, str(path), overrides)


def loads(text: str, where: str, overrides: Iterable[str] = ()) -> Config:
    """The config in TOML text, as `load`; `where` names the place it was found in, for errors."""
    tables = _tables(text, where)
    overridden = set()
    for override in overrides:
        key, equals, value = override.partition("=")
        section, dot, name = (part.strip() for part in key.partition("."))
        if not (equals and dot and section and name):
            raise InvalidInput(f"an override is section.key=value, got {override!r} (command line)")
        table = tables.setdefault(section, {})
        if isinstance(table, dict):  # what is not a section is reported below
            table[name] = _parse(value.strip())
        overridden |= {section, f"{section}.{name}"}

    return _from_tables(tables, lambda key: f"{'command line' if key in overridden else where}: {key}")


def to_toml(config: Config, provenance: Mapping[str, str] | None = None) -> str:
    """TOML text that `load` turns into the same config; a setting that is None is left out.

    Example:
        >>> config = Config(lattice=LatticeConfig(group="U(1)", sites=(8, 8)), action=ActionConfig(beta=2.0))
        >>> print(to_toml(config).partition("[flow]")[0])
        [lattice]
        group = "U(1)"
        sites = [8, 8]
        <BLANKLINE>
        [action]
        name = "wilson"
        beta = 2.0
        <BLANKLINE>
    """
    tables: dict[str, Mapping[str, Any]] = dataclasses.asdict(config)
    if provenance:
        tables["provenance"] = provenance
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_literal(value)}\n" for key, value in table.items() if value is not None)
        for name, table in tables.items()
    )


def resume_conflicts(old: Config, new: Config) -> list[str]:
    """The settings, in words, that keep a run made with `old` from going on with `new`.

    Free to change are ``[sampling]`` and, in ``[training]``, device, checkpoint_every and max_bad_steps. ``steps`` may
    grow; the cosine schedule then ends later, so the run is not the one that a longer schedule from the start gives.
    """
    conflicts = []
    for section in ("lattice", "action", "flow", "training"):
        before, now = (dataclasses.asdict(getattr(config, section)) for config in (old, new))
        for key in before.keys() - {"device", "checkpoint_every", "max_bad_steps"}:
            grows = (section, key) == ("training", "steps") and now[key] >= before[key]
            if before[key] != now[key] and not grows:
                conflicts.append(f"{section}.{key} was {before[key]} and is now {now[key]}")
    return sorted(conflicts)


def _tables(text: str, where: str) -> dict[str, Any]:
    try:
        tables = tomllib.loads(text)
    except ValueError as error:
        raise InvalidInput(f"a config must be TOML: {error} ({where})") from error
    tables.pop("provenance", None)
    return tables


def _parse(text: str) -> Any:
    try:
        tables = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return tables["value"] if len(tables) == 1 else text


def _from_tables(tables: Mapping[str, Any], where: Callable[[str], str]) -> Config:
    kinds: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(Config)}
    for name, table in tables.items():
        if name not in kinds:
            raise InvalidInput(f"unknown section {name!r}, valid sections: {', '.join(kinds)} ({where(name)})")
        if not isinstance(table, dict):
            raise InvalidInput(f"{name} must be a section [{name}], got {table!r} ({where(name)})")
    sections = {}
    for name, kind in kinds.items():
        sections[name] = kind.from_table(
            tables.get(name, {}), lambda key, section=name: where(f"{section}.{key}" if key else section)
        )
    return Config(**sections)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
