"""The structure of the package: which room may import which, and the manners that every module keeps."""

import ast
import configparser
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module may import from the rooms before its own.
ORDER = (
    "errors", "columns", "signals", "streams", "distributed", "kernels", "groups", "fields", "actions", "layers",
    "flows", "testing", "measurement", "settings", "config", "provenance", "training", "sampling", "io", "models",
    "folders", "exchange", "report", "figures", "chains", "observe", "potential", "flowed", "configurations", "runs",
    "results", "compare", "slurm", "cli", "__main__",
)  # fmt: skip

# Rooms that may import less than that.
NARROW = {
    "errors": set(),
    "columns": set(),
    "signals": set(),
    "streams": {"errors"},
    "distributed": {"errors"},
    "settings": {"errors"},
    "config": {"errors", "settings"},
    "provenance": set(),
    "sampling": set(ORDER[: ORDER.index("training")]),
}


def packages_on_disk():
    """The dotted names of all folders with an __init__.py, that behind the link lattice_flows/kernels included."""
    for folder, subfolders, files in os.walk(ROOT / "lattice_flows", followlinks=True):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        if "__init__.py" in files:
            yield ".".join(Path(folder).relative_to(ROOT).parts)


MODULES = {
    package if path.stem == "__init__" else f"{package}.{path.stem}": path
    for package in sorted(packages_on_disk())
    for path in sorted((ROOT / Path(*package.split("."))).glob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in MODULES.items()}

by_module = pytest.mark.parametrize("name", MODULES)


def room(name):
    """The part of a dotted name after lattice_flows; that of the root and of what it hands on is empty."""
    part = f"{name}.".split(".")[1]
    return part if part in ORDER or f"lattice_flows.{part}" in MODULES else ""


def imported_rooms(tree):
    """Pairs of a room that is imported anywhere in a module, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import; write the name in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((room(name), node.lineno) for name in names if name.split(".")[0] == "lattice_flows")


def test_every_room_has_a_place():
    assert {room(name) for name in MODULES} ^ {"", *ORDER} == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name != "lattice_flows"])
def test_imports_point_one_way(name):
    own = room(name)
    # nothing imports testing, which is for users and for the tests
    allowed = {own} | NARROW.get(own, set(ORDER[: ORDER.index(own)])) - {"testing"}
    for other, line in imported_rooms(TREES[name]):
        if other == "" and own == "provenance":  # it reads the version
            continue
        assert other in allowed, f"{MODULES[name]}:{line} imports {other or 'the package itself'}: {own} may not"


def test_setup_cfg_lists_every_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    assert len(listed) == len(set(listed))
    assert set(listed) ^ set(packages_on_disk()) == set()


@by_module
def test_docstrings(name):
    """Of modules, classes and functions; a method may inherit the docstring of what it overrides."""
    assert ast.get_docstring(TREES[name]), f"{name} has no docstring"
    module = importlib.import_module(name)
    for node in TREES[name].body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"
        kind = getattr(module, node.name)
        # of a Protocol, the class says what its members are
        members = vars(kind).items() if isinstance(kind, type) and not getattr(kind, "_is_protocol", False) else ()
        for member, value in members:
            method = inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod)
            if method and not member.startswith("_"):
                assert inspect.getdoc(getattr(kind, member)), f"{name}.{node.name}.{member} has no docstring"


# What is run to print: the command line.
PROGRAMS = {"lattice_flows.cli"}
GLOBAL_SEED = re.compile(r"(torch|random|np|numpy)(\.\w+)*\.(manual_)?seed(_all)?")


@by_module
def test_no_printing_and_no_global_seeds(name):
    forked = {
        id(inner)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.With) and "fork_rng" in ast.unparse(node.items[0])
        for inner in ast.walk(node)
    }
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            called, where = ast.unparse(node.func), f"{MODULES[name]}:{node.lineno}"
            assert called != "print" or name in PROGRAMS, f"{where} prints; log instead"
            seeds = GLOBAL_SEED.fullmatch(called) and id(node) not in forked
            assert not seeds, f"{where} seeds a global random stream; take a generator"


def test_import_has_no_side_effects():
    """Neither output nor the heavy libraries, so that help and completion do not wait for them."""
    heavy = {"torch", "numpy", "scipy", "matplotlib", "mpi4py", "h5py", "safetensors", "pyerrors"}
    code = f"import sys, lattice_flows; loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
