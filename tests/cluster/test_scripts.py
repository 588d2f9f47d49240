"""What is submitted, without a Slurm: scripts filled in, site profiles, and what a person is told."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cluster import THEORY
from command_line import fails, out

from lattice_flows import cli
from lattice_flows.cluster.profile import Environment, Resources, load_profile
from lattice_flows.cluster.script import fill, template

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATTICE_FLOWS_SITE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("u1.toml").write_text(THEORY)
    return tmp_path


@pytest.mark.parametrize("kind", ["train", "sample", "measure"])
def test_templates_are_bash(kind, tmp_path):
    """As they are and filled in; words with blanks and quotes arrive as they were given."""
    words = ["it's a run", "a=$(echo no)"]
    for text in (template(kind), fill(kind, tmp_path / "it's", words, Resources(), Environment())):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    line = next(line for line in text.splitlines() if line.startswith("set -- "))
    printed = subprocess.run(["bash", "-c", f"{line}; printf '%s\\n' \"$@\""], capture_output=True, text=True)
    assert printed.stdout.splitlines() == words


def test_scripts_end_alike():
    """They say that they do."""
    mark = "# ---- From here on"
    (same,) = {template(kind).partition(mark)[2] for kind in ("train", "sample", "measure")}
    assert "trap" in same
    assert all("#SBATCH --signal=B:USR1@120\n" in template(kind) for kind in ("train", "sample", "measure"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_wrong_setup_is_explained(tmp_path):
    script = fill("train", tmp_path, ["u1.toml", "run"], Resources(), Environment())
    result = subprocess.run(
        ["/bin/bash"], input=script, text=True, capture_output=True, env={"PATH": "/usr/bin:/bin", "SLURM_NTASKS": "1"}
    )
    assert result.returncode == 127
    assert "the setup lines of the site profile have to put it there" in result.stderr


def test_dry_run(here, capsys):
    """Exactly the script, which is asked for what the command line and then the profile say; and nothing is made."""
    Path("site.toml").write_text(
        '[environment]\nmodules = ["mpich"]\nlauncher = "mpiexec -n $SLURM_NTASKS"\nsignal_seconds = 60\n'
        '[defaults]\naccount = "x"\nnodes = 8\n'
    )
    words = ["submit", "u1.toml", "--out", "my run", "--site", "site.toml", "--nodes", "2", "--ntasks-per-node", "4"]
    text = out(capsys, *words, "--time", "30", "--gpus-per-task", "1", "--dry-run")
    head = text.partition("\n\n")[0].splitlines()
    assert head == [
        "#!/bin/bash",
        "#SBATCH --job-name='my run-train'",
        "#SBATCH --account=x",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=4",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --gpus-per-task=1",
        "#SBATCH --time=30",
        f"#SBATCH --chdir={here}",
        f"#SBATCH --output='{here}/my run/train-%j.out'",
        "#SBATCH --signal=B:USR1@60",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
    ]
    assert "module load mpich" in text
    assert "launcher=(mpiexec -n $SLURM_NTASKS)" in text
    assert "set -- 'my run/config.toml' 'my run'" in text
    assert sorted(path.name for path in here.iterdir()) == ["site.toml", "u1.toml"]


def test_jobs_find_modules_beside_the_config(here, capsys):
    """They load the copy of the config in the folder of the run, where the modules are not."""
    Path("it's").mkdir()
    Path("it's", "beside.py").write_text("")
    Path("it's", "u1.toml").write_text(f'imports = ["beside"]\n{THEORY}')
    text = out(capsys, "submit", "it's/u1.toml", "--out", "run", "--dry-run")
    line = next(line for line in text.splitlines() if line.startswith("export PYTHONPATH="))
    shown = subprocess.run(
        ["bash", "-c", f"{line}; echo $PYTHONPATH"], capture_output=True, text=True, env={"PYTHONPATH": "/other"}
    )
    assert shown.stdout == f"{here}/it's:/other\n"


def test_jobs_of_a_chain(here, capsys):
    text = out(capsys, "submit", "u1.toml", "--jobs", "train,sample,measure", "--array", "0-3", "--dry-run")
    heads = [line for line in text.splitlines() if line.startswith("==>")]
    assert heads == [
        "==> runs/u1/train.sbatch <==",
        "==> runs/u1/sample.sbatch, after train <==",
        "==> runs/u1/measure.sbatch, after each task of sample <==",
    ]
    assert text.count("#SBATCH --array=0-3") == 2


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("[environment", "a site profile must be TOML"),
        ('[environment]\nlauncher = "srun \'"', "site.toml: environment.launcher"),
        ("[defaults]\nnodes = 0", "nodes must be >= 1, got 0 (site.toml: defaults.nodes)"),
        ("[defaults]\nnode = 2", "unknown key 'node', valid keys: nodes"),
        ('launcher = "srun"', "launcher belongs to [environment]"),
        ('[train]\ntime = "soon"', "time must be a time such as 30 (minutes), 12:00:00"),
    ],
)
def test_bad_profile_is_one_line(profile, words, here, capsys):
    Path("site.toml").write_text(profile)
    assert words in fails(capsys, "submit", "u1.toml", "--site", "site.toml", "--dry-run")


def test_bad_words_are_one_line(here, capsys, monkeypatch):
    assert "cannot read the site profile" in fails(capsys, "submit", "u1.toml", "--site", "nowhere.toml", "--dry-run")
    assert "in this order, got sample,train" in fails(capsys, "submit", "u1.toml", "--jobs", "sample,train")
    assert "an array is such as 0-7" in fails(capsys, "submit", "u1.toml", "--jobs", "train,sample", "--array", "a")
    assert "the id of a job" in fails(capsys, "submit", "u1.toml", "--after", "train")
    assert "nothing is trained yet" in fails(capsys, "submit", "u1.toml", "--jobs", "sample")
    assert "beta must be > 0" in fails(capsys, "submit", "u1.toml", "action.beta=-1")
    levels = ["training.level_steps=2", "action.name=symanzik"]
    assert "level_steps belongs to hierarchical" in fails(capsys, "submit", "u1.toml", *levels)
    words = fails(capsys, "submit", "u1.toml", *levels, "flow.architecture=hierarchical")
    assert "level_steps > 0 needs a hierarchical flow for one coupling of the Wilson action" in words
    monkeypatch.setenv("PATH", "")
    assert "sbatch is not here: submit from a login node" in fails(capsys, "submit", "u1.toml")


def test_status_without_slurm(here, capsys, monkeypatch):
    """From the folder alone."""
    words = ["training.steps=2", "training.batch=8", "training.device=cpu", "flow.layers=2", "flow.hidden=[4]"]
    out(capsys, "train", "u1.toml", "--out", "run", *words)
    monkeypatch.setenv("PATH", "")
    head, row = out(capsys, "status", "run").splitlines()
    assert head.split()[:6] == ["run", "job", "id", "state", "step", "ESS"]
    assert row.split()[:2] == ["run", "train"]
    assert "2/2" in row
    # what is wrong with one does not hide the others
    assert cli.main(["status", "u1.toml", "run"]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == [head, row]
    assert said.err.startswith("lattice-flows: error: a folder made by lattice-flows train or sample is expected, this")
    assert "this is a file" in fails(capsys, "status", "u1.toml")


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_shipped_profiles_are_right(name):
    profile = load_profile(ROOT / "slurm" / "sites" / f"{name}.toml")
    asks = profile.resources("train", {})
    assert asks.nodes == 1
    assert asks.gpus_per_task == (name == "gpu")
