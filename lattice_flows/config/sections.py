"""The sections of a config: their own keys; those of the entries that they name are added in `config`."""

import math
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from lattice_flows.config.registry import SAMPLERS
from lattice_flows.config.rules import FINITE, Count, Positive, Rule, Seed, Settings, Steps, at_least, at_most, matching
from lattice_flows.errors import InvalidInput

SITES = 2**28
Extents = Annotated[
    tuple[int, ...],
    Rule("2 to 4 extents, each >= 2", lambda v: 2 <= len(v) <= 4 and min(v) >= 2),
    Rule(f"extents of at most {SITES:,} sites together", lambda v: math.prod(v) <= SITES),
]
Device = Annotated[str, matching("auto, cpu, cuda or cuda:k", r"auto|cpu|cuda(:\d{1,3})?")]
Ranks = Annotated[int, at_least(1), at_most(100_000)]
Updates = Annotated[
    tuple[str, ...],
    Rule(
        "a list of updates, each alone or as heatbath*4",
        lambda v: v and all(re.fullmatch(r"[A-Za-z]\w*(\*[1-9]\d*)?", update) for update in v),
    ),
    Rule(
        "at most 100 updates, each at most 9999 times",
        lambda v: len(v) <= 100 and all(len(update.partition("*")[2]) <= 4 for update in v),
    ),
]


def cycle_of(updates: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """The names of updates in order, each with its number of repetitions.

    Example:
        >>> cycle_of(("heatbath", "overrelaxation*4"))
        (('heatbath', 1), ('overrelaxation', 4))
    """
    parts = (update.partition("*") for update in updates)
    return tuple((name, int(count or 1)) for name, _, count in parts)


Couplings = Annotated[
    tuple[float, ...],
    Rule("2 to 100 couplings > 0 that rise", lambda v: 2 <= len(v) <= 100 and all(map(operator.lt, (0, *v), v))),
]


class Section(Settings):
    """Base of the sections."""

    if TYPE_CHECKING:  # the keys of the entries that a section names

        def __getattr__(self, name: str) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class LatticeConfig(Section):
    """``[lattice]``: the field, its gauge group ``U(1)`` or ``SU(N)``, and the periodic extents in lattice units.

    In TOML, ``sites`` is another name of ``extents``.
    """

    field: Literal["gauge", "scalar"] = "gauge"
    group: str | None = None
    extents: Extents

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.field == "gauge" and self.group is None:
            raise InvalidInput('group is missing: a gauge field needs one, such as "SU(3)"')
        if self.field != "gauge" and self.group is not None:
            raise InvalidInput(f'group belongs to field = "gauge": leave it out for a {self.field} field')
        if short := re.fullmatch(r"(S?U)(\d+)", self.group or ""):
            object.__setattr__(self, "group", f"{short[1]}({short[2]})")


@dataclass(frozen=True, kw_only=True)
class ActionConfig(Section):
    """``[action]``: the name of an action; its couplings are the further keys."""

    name: str


@dataclass(frozen=True, kw_only=True)
class FlowConfig(Section):
    """``[flow]``: an architecture; its settings are the further keys.

    ``auto`` is the first architecture that suits the field and the dimension.
    """

    architecture: str = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Section):
    """``[training]``: reverse KL with Adam or SOAP, linear warm-up and a cosine schedule that ends at ``steps``.

    With ``anneal_steps``, beta rises from ``beta_start`` to its value in ``[action]`` over that many steps. Gradients
    are clipped to the norm ``clip``. ``max_bad_steps`` steps in a row without a finite loss end the training.

    Every batch is cut into ``shards`` with random numbers of their own, which the ranks of an MPI world share. The
    result of a run does not depend on the number of ranks, up to ``shards``.

    An architecture can add keys. Where they count steps, ``step_keys`` names them.
    """

    step_keys: ClassVar[tuple[str, ...]] = ()

    steps: Steps = 1000
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
    shards: Ranks = 16
    checkpoint_every: Count = 100
    max_bad_steps: Count = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("steps", *self.step_keys)
        if not any(getattr(self, name) for name in names):
            raise InvalidInput(f"{' and '.join(names)} must not {'both ' if len(names) == 2 else ''}be 0")
        if (self.anneal_steps > 0) != (self.beta_start is not None):
            raise InvalidInput(
                "annealing needs both beta_start and anneal_steps >= 1, "
                f"got beta_start {self.beta_start} and anneal_steps {self.anneal_steps}"
            )


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Section):
    """``[sampling]``: Markov chains side by side. Each stores ``n`` configurations, ``every`` updates apart.

    An update is the whole cycle ``updates``, such as ``["flow", "overrelaxation*4", "heatbath"]``. The settings of its
    parts are the further keys.

    The chains ``start`` hot, cold, or at the configuration in a gauge file. By default they start at proposals
    of the flow or the annealing where ``updates`` use one, and else hot. The first ``thermalise`` updates are dropped,
    and tune HMC and Metropolis; the first quarter of them is then local updates, if the action has them. By default
    these are none where proposals are all updates, and else 200.
    """

    updates: Updates = ("flow",)
    chains: Ranks = 1
    n: Count = 10_000
    every: Count = 1
    thermalise: Steps | None = None
    start: str | None = None
    seed: Seed = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.names == ("overrelaxation",):
            raise InvalidInput("over-relaxation keeps the action and needs another update, such as heatbath, beside it")

    @property
    def cycle(self) -> tuple[tuple[str, int], ...]:
        """The updates in order, each with its number of repetitions: ``overrelaxation*4`` has four."""
        return cycle_of(self.updates)

    @property
    def names(self) -> tuple[str, ...]:
        """The updates of the cycle, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.cycle))

    @property
    def uses_flow(self) -> bool:
        """Whether an update needs a trained flow."""
        return any(SAMPLERS[name].uses_flow for name in self.names)

    @property
    def independent(self) -> bool:
        """Whether all updates are proposals from one source, which do not depend on the state."""
        return len(self.names) == 1 and SAMPLERS[self.names[0]].independent

    @property
    def dropped(self) -> int:
        """The number of updates that are dropped first."""
        default = 0 if self.independent else 200
        return default if self.thermalise is None else self.thermalise


@dataclass(frozen=True, kw_only=True)
class TemperingConfig(Section):
    """``[tempering]``: replica exchange between the couplings ``betas``, which rise; without them there is none.

    Every coupling has its own updates, those of ``[sampling]``. After each of them neighbours try to swap their
    configurations. The chains of the run are those at the coupling of ``[action]``, where HMC and Metropolis are tuned.
    """

    betas: Couplings | None = None

    def check(self, config: Any) -> None:
        if self.betas is None:
            return
        beta = getattr(config.action, "beta", None)
        if beta is None:
            raise InvalidInput(f"tempering changes the coupling beta, which the action {config.action.name} has not")
        if beta not in self.betas:
            raise InvalidInput(
                f"tempering.betas must hold action.beta = {beta:g}, whose chain is measured, got {list(self.betas)}"
            )
        proposing = [name for name in config.sampling.names if SAMPLERS[name].uses_flow or SAMPLERS[name].independent]
        if proposing:
            raise InvalidInput(
                f"tempering needs updates for every coupling, such as heatbath, got {', '.join(proposing)}, whose "
                "proposals are of one"
            )
