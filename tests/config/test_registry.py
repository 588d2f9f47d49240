"""Names of actions, architectures, updates and observables."""

import importlib.metadata
import json
import subprocess
import sys

import pytest
from entries import copy_registries

from lattice_flows.config import ACTIONS, ARCHITECTURES, OBSERVABLES, SAMPLERS, Registry
from lattice_flows.errors import InvalidInput


@pytest.fixture
def registries(monkeypatch):
    copy_registries(monkeypatch)


@pytest.mark.parametrize("registry", [ACTIONS, ARCHITECTURES, SAMPLERS, OBSERVABLES], ids=lambda r: r.kind)
def test_every_name_leads_to_an_entry(registry):
    entries = dict(registry.items())
    assert list(entries) == list(registry)
    assert all(entry is registry[name] for name, entry in entries.items())
    with pytest.raises(InvalidInput) as error:
        registry["nothing"]
    assert str(error.value) == f"unknown {registry.kind} 'nothing'; available: {', '.join(registry)}"


def test_register(registries):
    entry = object()
    ACTIONS.register("mine", entry)
    ACTIONS.register("mine", entry)  # as a module does that is imported again
    assert ACTIONS["mine"] is entry
    assert list(ACTIONS)[-1] == "mine"
    for name in ("mine", "wilson"):
        with pytest.raises(InvalidInput, match="there is another action with the name"):
            ACTIONS.register(name, object())
    for name in ("", "my action", "hmc*4", "3d"):
        with pytest.raises(InvalidInput, match="letters, digits and underscores"):
            ACTIONS.register(name, object())


def test_entry_points(monkeypatch, caplog):
    """Entries of other packages; a name that is taken is not taken over, and a broken place says where it is."""
    points = [
        importlib.metadata.EntryPoint(name, value, "group")
        for name, value in (
            ("far", "json:dumps"),
            ("near", "json:loads"),
            ("broken", "json:nothing"),
            ("gone", "nox:y"),
        )
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == "group" else [])
    registry = Registry("update", {"near": "errors:InvalidInput"}, "group")
    assert list(registry) == ["near", "far", "broken", "gone"]
    assert registry["far"] is json.dumps
    assert registry["near"] is InvalidInput
    assert "update near of json:loads is left out" in caplog.text
    for name, words in (("broken", "the update 'broken' is not at json:nothing"), ("gone", "No module named 'nox'")):
        with pytest.raises(InvalidInput, match=words):
            registry[name]


def test_import_is_light():
    """Neither the room of configs nor the command line waits for the entries."""
    code = "import sys, lattice_flows.config, lattice_flows.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
