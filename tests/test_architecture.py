"""The structure of the package: which room may import which, and the manners that every module keeps."""

import ast
import configparser
import graphlib
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module may import from its own band and from the bands before; rooms of one band form no circle.
BANDS = (
    {"errors", "config", "distributed", "signals"},
    {"kernels", "streams", "groups", "lattice", "operators", "actions", "observables", "statistics"},
    {"layers", "flows", "sampling", "training", "planar"},
    {"io", "models", "reports", "runs"},
    {"cluster", "cli", "__main__"},
)
# Laws for users and for the tests: no room imports it.
ASIDE = {"testing"}
BAND = {room: number for number, rooms in enumerate(BANDS) for room in rooms} | dict.fromkeys(ASIDE, len(BANDS))
# A leaf that serves numbers of any origin.
LEAVES = {"statistics": {"errors"}, "errors": set(), "signals": set()}


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
    return part if part in BAND or f"lattice_flows.{part}" in MODULES else ""


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
    assert {room(name) for name in MODULES} ^ {"", *BAND} == set()


def test_few_modules_stand_at_the_top():
    assert sum(name.count(".") == 1 and path.stem != "__init__" for name, path in MODULES.items()) <= 8


@pytest.mark.parametrize("name", [name for name in MODULES if name != "lattice_flows"])
def test_imports_point_down(name):
    own = room(name)
    for other, line in imported_rooms(TREES[name]):
        where = f"{MODULES[name]}:{line} imports {other or 'the package itself'}"
        if other == "":
            assert name == "lattice_flows.config.provenance", where  # it reads the version
        elif own in LEAVES:
            assert other in {own} | LEAVES[own], where
        else:
            assert BAND[other] <= BAND[own], f"{where}, which stands in a higher band"
            assert other not in ASIDE or own in ASIDE, where


def test_rooms_form_no_circle():
    graph = {
        own: {other for name in MODULES if room(name) == own for other, _ in imported_rooms(TREES[name])} - {own, ""}
        for own in BAND
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def is_group_test(node):
    """Whether an expression asks which group it has: an isinstance of SU or U1, or the truth of an element's shape."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
        return bool({"SU", "U1"} & {inner.id for inner in ast.walk(node.args[1]) if isinstance(inner, ast.Name)})
    if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
        tested = [node.test]
    elif isinstance(node, ast.BoolOp):
        tested = node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        tested = [node.operand]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "bool":
        tested = node.args
    elif isinstance(node, ast.Compare) and "()" in map(ast.unparse, (node.left, *node.comparators)):
        tested = [node.left, *node.comparators]
    else:
        return False
    return any(isinstance(part, ast.Attribute) and part.attr == "element_shape" for part in tested)


@by_module
def test_groups_own_every_switch(name):
    """No code outside `groups` depends on which group it is given, so that a new one needs its file alone."""
    if room(name) not in ("groups", "kernels"):
        for node in ast.walk(TREES[name]):
            assert not is_group_test(node), (
                f"{MODULES[name]}:{node.lineno}: give the group a method: {ast.unparse(node)}"
            )


def test_group_tests_are_found():
    for code in ("isinstance(g, SU)", "1 if g.element_shape else 2", "not g.element_shape", "g.element_shape == ()"):
        assert any(map(is_group_test, ast.walk(ast.parse(code)))), code
    assert not any(map(is_group_test, ast.walk(ast.parse("x.shape == (2, *g.element_shape)"))))


def test_setup_cfg_lists_every_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    assert len(listed) == len(set(listed))
    # slurm has files alone, and no modules
    assert set(listed) ^ {*packages_on_disk(), "lattice_flows.slurm"} == set()


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


# Programs that print.
PROGRAMS = {"lattice_flows.cli", "lattice_flows.cli.commands"}
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


def test_nothing_waits_for_a_compiler():
    """No op, and no optimizer, imports torch.compile, which takes longer than all of torch, or parts of scipy."""
    code = (
        "import sys; from lattice_flows import SU, GaugeField, actions, cli, flows, reports, runs, sampling, training\n"
        "from lattice_flows.config.sections import TrainingConfig\n"
        "space = GaugeField(SU(2), (4, 8))\n"
        "action, streams = actions.Wilson(space, 2.0), sampling.Streams(seed=0, chains=1)\n"
        "chain = sampling.HeatBath(action)\n"
        "chain.step(chain.init(sampling.start(space, streams)), streams)\n"
        "for optimizer in ('adam', 'soap'):\n"
        "    settings = TrainingConfig(steps=2, batch=4, optimizer=optimizer)\n"
        "    state = training.TrainingState.start(flows.stripes(SU(2), (4, 8), layers=1), settings)\n"
        "    list(training.train(state, action, settings))\n"
        "    state.load_state_dict(state.state_dict())\n"
        "loaded = {'torch._dynamo', 'scipy.special', 'scipy.interpolate', 'scipy.stats'} & set(sys.modules)\n"
        "assert 'torch' in sys.modules and not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_names_that_have_moved():
    """Old names go on working, or their error says the new name."""
    import lattice_flows
    from lattice_flows import flows, layers, planar

    assert flows.hierarchical is importlib.import_module("lattice_flows.planar.hierarchical").hierarchical
    assert layers.TriangularMap.__module__.startswith(planar.__name__)
    for room, name, now in (
        (layers, "PhaseMap", r"SpectralMap\(U1\(\), bins\)"),
        (flows, "HaarPrior", "the prior of a space"),
        (lattice_flows, "fields", r"lattice_flows\.lattice"),
        (lattice_flows, "measurement", r"lattice_flows\.observables"),
    ):
        with pytest.raises(ImportError, match=f"{name} is now {now}"):
            getattr(room, name)
    for room in (layers, flows, lattice_flows):
        assert not hasattr(room, "nothing_of_the_kind")
