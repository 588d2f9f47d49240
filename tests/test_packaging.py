"""What an installation consists of: the wheel, the source archive, the editable install, and the bare checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


# Folders of the checkout, and what stands before their names in a wheel.
FOLDERS = {"lattice_flows": "", "kernels": "lattice_flows/", "slurm": "lattice_flows/"}


def installed_files():
    """Every file of the package, as the checkout names it and as a wheel does."""
    for folder, inside in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):  # which does not go through the links in lattice_flows
            if path.is_file() and path.suffix not in (".md", ".pyc", ".sh"):  # a script is for checkouts
                name = str(path.relative_to(ROOT))
                yield name, inside + name


# Every module; where asked for, the weights of all models and the entry point by its name; one kernel, compiled there.
USE_IT = """
import importlib, importlib.metadata, pathlib, pkgutil, sys
import torch
import lattice_flows, lattice_flows.kernels
where = pathlib.Path(sys.argv[1]).resolve()
for module in pkgutil.walk_packages(lattice_flows.__path__, "lattice_flows."):
    assert where in pathlib.Path(importlib.import_module(module.name).__file__).resolve().parents, module.name
for name in lattice_flows.models.available() if "models" in sys.argv else ():
    assert sum(parameter.numel() for parameter in lattice_flows.load(name).flow.parameters()) > 100, name
group = lattice_flows.SU(3)
assert group.eigenphases(group.identity(2))[0].abs().max() == 0
x = torch.diag(torch.tensor([0.5j, -0.5j]))
assert torch.allclose(lattice_flows.kernels.algebra_exp(x).diagonal(), x.diagonal().exp())
from lattice_flows.cluster.script import template
assert template("train").startswith("#!/bin/bash")
if "entry point" in sys.argv:
    (script,) = importlib.metadata.distribution("lattice-flows").entry_points
    assert script.name == "lattice-flows"
    sys.argv[1:] = ["--version"]
    script.load()()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what a build reads, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("source")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def unzipped(source, tmp_path_factory):
    """The same from a zip as GitHub makes it, whose links Python unpacks as text files."""
    folder = tmp_path_factory.mktemp("zip")
    with zipfile.ZipFile(folder / "source.zip", "w") as archive:
        for path in sorted(source.rglob("*")):  # which does not go through links
            entry = zipfile.ZipInfo(f"source/{path.relative_to(source)}")
            entry.external_attr = path.lstat().st_mode << 16
            if path.is_symlink():
                archive.writestr(entry, os.readlink(path))
            elif path.is_file():
                archive.writestr(entry, path.read_bytes())
    with zipfile.ZipFile(folder / "source.zip") as archive:
        archive.extractall(folder)
    assert (folder / "source" / "lattice_flows" / "kernels").read_text() == "../kernels"
    return folder / "source"


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def build(kind, source, out):
    """What pip does without build isolation: the setuptools hook, with the sources as working directory."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    result = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (built,) = out.iterdir()
    return built


def contents(wheel):
    """Every file and the checksum of what it holds; the list of files is in another order each time."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist() if not entry.filename.endswith("/RECORD")}


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def use(cwd, where, *parts, path="", setup=""):
    """Runs USE_IT in a folder, with an empty cache; returns what it prints. The package must come from `where`.

    Parts that take longer, or are not everywhere, are named: "entry point", "models".
    """
    command = [sys.executable, "-c", setup + USE_IT, str(where), *parts]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPATH": str(path), "LATTICE_FLOWS_CACHE": cache}
        result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert "no compiled kernels" not in result.stderr
        assert list(Path(cache).glob("algebra_exp-float2-*.so"))
    return result.stdout


def test_wheel(wheel, tmp_path):
    names = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert names ^ {name for _, name in installed_files()} == set()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    installed = unpack(wheel, tmp_path / "installed")
    assert use(elsewhere, installed, "models", "entry point", path=installed).startswith("lattice-flows ")


def test_source_archive(source, wheel, tmp_path):
    """It holds all that the wheel is made of, and makes the same wheel."""
    (tmp_path / "sdist").mkdir()
    with tarfile.open(build("sdist", source, tmp_path / "sdist")) as archive:
        # Python 3.11.0 to 3.11.3 have no filters yet
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path / "unpacked", **safely)
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    names = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    needed = {
        *(name for name, _ in installed_files()),
        "setup.cfg",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "PKG-INFO",
    }
    assert needed - names == set()
    (tmp_path / "again").mkdir()
    assert contents(build("wheel", unpacked, tmp_path / "again")) == contents(wheel)


def test_zip(unzipped, wheel, tmp_path):
    """It makes the same wheel as a checkout with links."""
    assert contents(build("wheel", unzipped, tmp_path)) == contents(wheel)


@pytest.mark.parametrize("checkout", ["source", "unzipped"])
def test_editable_install(checkout, tmp_path, request):
    source = request.getfixturevalue(checkout)
    (tmp_path / "wheel").mkdir()
    (tmp_path / "elsewhere").mkdir()
    site = unpack(build("editable", source, tmp_path / "wheel"), tmp_path / "site")
    # it works by a .pth file, which is read in site folders alone
    setup = f"import site, sys; site.addsitedir({str(site)!r}); sys.path.insert(0, sys.path.pop())"
    assert use(tmp_path / "elsewhere", source, "entry point", path=site, setup=setup).startswith("lattice-flows ")


def test_bare_checkout():
    use(ROOT, ROOT)
