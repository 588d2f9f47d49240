"""The settings that a run may change when it goes on."""

from typing import Any

from lattice_flows.config.combine import keys
from lattice_flows.config.config import Config

FREE = ("device", "checkpoint_every", "max_bad_steps")
"""Keys of `[training]` that may change."""


def resume_conflicts(old: Config, new: Config, *, longer: bool = True) -> list[str]:
    """The settings, in words, that keep a run made with `old` from going on with `new`.

    Free to change are ``[sampling]``, ``imports`` and, in ``[training]``, device, checkpoint_every and max_bad_steps.
    ``steps`` may grow. The cosine schedule then ends later, so the run differs from one with the longer schedule from
    its start.

    Args:
        longer: whether ``steps`` may grow.

    Example:
        >>> old = Config.of(lattice={"group": "U(1)", "extents": (8, 8)}, action={"beta": 2.0})
        >>> resume_conflicts(old, old.having(action={"beta": 3.0}, sampling={"n": 5}))
        ['action.beta was 2.0 and is now 3.0']
    """
    conflicts = []
    before, now = old.tables(), new.tables()
    for section in ("lattice", "action", "flow", "training"):
        # where another entry is named, its name alone is told, and not each key that comes or goes with it
        shared = set(keys(type(getattr(old, section)))) & set(keys(type(getattr(new, section))))
        for key in shared - (set(FREE) if section == "training" else set()):
            was: Any = before[section].get(key)
            is_now: Any = now[section].get(key)
            grows = longer and (section, key) == ("training", "steps") and is_now >= was
            if was != is_now and not grows:
                conflicts.append(f"{section}.{key} was {was} and is now {is_now}")
    return sorted(conflicts)
