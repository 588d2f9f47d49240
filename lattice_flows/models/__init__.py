"""Trained models: a flow with its action and config, in one file each; the files in this folder come with the package.

Example:
    >>> from lattice_flows import models
    >>> isinstance(models.available(), list)
    True
"""

from lattice_flows.models.build import build_action, build_run, dtype
from lattice_flows.models.store import (
    Facts,
    Header,
    Model,
    available,
    carried,
    check_suffix,
    check_weights,
    digest,
    find,
    load,
    read_header,
    save,
    with_sites,
)

__all__ = [
    "Facts",
    "Header",
    "Model",
    "available",
    "build_action",
    "build_run",
    "carried",
    "check_suffix",
    "check_weights",
    "digest",
    "dtype",
    "find",
    "load",
    "read_header",
    "save",
    "with_sites",
]
