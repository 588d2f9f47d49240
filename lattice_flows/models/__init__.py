"""Trained models: one file holds a flow, its action and its config; the files in this folder come with the package."""

from lattice_flows.models.build import build_action, build_run, build_space, dtype
from lattice_flows.models.store import Facts, Header, Model, available, carried, digest, find, load, read_header, save

__all__ = [
    "Facts", "Header", "Model", "available", "build_action", "build_run", "build_space", "carried", "digest", "dtype",
    "find", "load", "read_header", "save",
]  # fmt: skip
