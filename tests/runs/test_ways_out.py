"""No dead ends: whatever refuses names a command that works, and nothing that was made is lost."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from command_line import fails, out

from lattice_flows import SU, lattice, models, runs
from lattice_flows.config import load
from lattice_flows.io import ChainFile, read_metrics, write_configuration

CONFIG = """
[lattice]
group = "U1"
extents = [4, 4]
[action]
beta = 1.0
[flow]
layers = 2
hidden = [4]
bins = 4
[training]
steps = 12
batch = 64
device = "cpu"
[sampling]
n = 60
batch = 50
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is trained and sampled; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "u1.toml").write_text(CONFIG)
    runs.train_run(load(folder / "u1.toml"), folder / "run")
    runs.sample_run(folder / "run")
    return folder


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "here"))


def updates(name="ensemble.h5"):
    return ChainFile(Path("run", name)).n_updates


def test_a_chain_of_other_weights_or_settings_is_kept_and_another_begins(here, capsys):
    out(capsys, "measure", "run")
    out(capsys, "train", "u1.toml", "--out", "run", "training.steps=14")
    for number, words in enumerate(
        ([], ["sampling.chains=2"], ['sampling.updates=["flow*2"]'], ["sampling.every=3"]), 1
    ):
        refusal = fails(capsys, "sample", "run", *words)
        assert f"--new keeps it as ensemble.{number}.h5 and starts another" in refusal
        before = Path("run/ensemble.h5").read_bytes()
        assert out(capsys, "sample", "run", "--new", *words).startswith("60 configurations")
        assert Path(f"run/ensemble.{number}.h5").read_bytes() == before
        assert out(capsys, "sample", "run", "-n", "70", *words).startswith("70 configurations")
    assert {"report.1.json", "report.1.txt", "sampling.1.jsonl", "figures.1"} <= {
        path.name for path in Path("run").iterdir()
    }
    assert not Path("run/report.json").exists()
    assert "60 configurations" in out(capsys, "measure", "run/ensemble.1.h5")


@pytest.mark.parametrize("override", ["sampling.chains=3", 'sampling.updates=["flow", "heatbath"]', "sampling.seed=9"])
def test_the_settings_that_are_named_go_on_with_the_chain(here, capsys, override):
    out(capsys, "sample", "run", "--new", override)
    refusal = fails(capsys, "sample", "run", "-n", "70")
    named = re.search(r": ('.*?'|\S+) goes on with it", refusal)[1]
    out(capsys, "sample", "run", "-n", "70", *shlex.split(named))
    assert updates() == 70


def test_a_new_chain_that_is_killed_half_way_aside(here, capsys, monkeypatch):
    """The same command goes on, and nothing is overwritten."""
    rename = Path.rename

    def killed(self, target):
        if self.name == "ensemble.h5":
            raise KeyboardInterrupt
        rename(self, target)

    out(capsys, "measure", "run")
    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        runs.sample_run("run", anew=True)
    monkeypatch.setattr(Path, "rename", rename)
    out(capsys, "sample", "run", "--new", "-n", "10")
    assert (updates("ensemble.1.h5"), updates()) == (60, 10)
    assert json.loads(Path("run/report.1.json").read_text())["n"] == 60
    assert not Path("run/ensemble.2.h5").exists()


def test_a_training_that_is_enough_before_its_end(here, capsys):
    """Its flow is measured, it counts as trained, and it can still go on."""
    train = ("train", "u1.toml", "--out", "other")
    said = out(capsys, *train, "--steps", "5")
    assert "1024 fresh samples of the whole flow: ESS " in said
    assert "trained for 5 steps" in said
    assert out(capsys, *train, "--steps", "5") == said
    shown = out(capsys, "show", "other")
    assert "training: 5 of 12 steps" in shown
    assert "trained: ended after 5 steps, 1024 fresh samples" in shown
    assert "warning" not in shown
    assert "5/5" in out(capsys, "status", "other")
    out(capsys, "sample", "other")
    assert runs.trained_model("other").facts.planned is None
    assert "--steps 5 makes that the end" in fails(capsys, *train, "--steps", "4")
    assert "steps must be from 1 to the 12 that are planned, got 13" in fails(capsys, *train, "--steps", "13")
    words = fails(capsys, *train, "training.steps=7")
    assert "of training.steps=12 --steps N makes fewer" in words
    assert "trained for 7 steps" in out(capsys, *train, "training.steps=12", "--steps", "7")
    assert "trained for 12 steps" in out(capsys, *train)
    assert runs.read_trained(Path("other")).step == 12


def test_a_half_trained_flow_says_so(here, capsys, caplog):
    """Wherever it is used, with a command that goes on and one that makes it the end."""
    train = ("train", "u1.toml", "--out", "run", "training.steps=20")
    out(capsys, *train, "--steps", "15")
    Path("run/trained.json").unlink()  # as after a kill
    words = "the flow was trained for 15 of 20 steps"
    out(capsys, "sample", "run", "--new")
    assert words in caplog.text
    assert words in out(capsys, "measure", "run")
    assert words in json.loads(Path("run/report.json").read_text())["half_trained"]
    out(capsys, "export", "run", "half.safetensors", "-n", "100")
    assert models.read_header("half.safetensors").facts.planned == 20
    caplog.clear()
    out(capsys, "sample", "--model", "half.safetensors", "--out", "from-model")
    assert words in caplog.text
    shown = out(capsys, "show", "run")
    assert f"warning: {words}" in shown
    again, end = re.search(r"lattice-flows (train .*) goes on, and with (--steps 15) that is the end", shown).groups()
    assert "trained for 15 steps" in out(capsys, *again.split(), *end.split())
    caplog.clear()
    out(capsys, "sample", "run", "-n", "61")
    assert caplog.text.count("warning") == 0
    assert "trained for 20 steps" in out(capsys, *again.split())


def test_the_quality_is_measured_once_and_made_up_for_after_a_kill(here, capsys):
    trained = Path("run/trained.json")
    before = trained.read_bytes()
    stored = trained.stat().st_mtime_ns
    out(capsys, "train", "u1.toml", "--out", "run")
    assert trained.stat().st_mtime_ns == stored
    trained.unlink()
    assert "trained and not measured yet: lattice-flows train run/config.toml --out run does" in out(
        capsys, "show", "run"
    )
    out(capsys, "train", "run/config.toml", "--out", "run")
    one, two = (json.loads(data) for data in (before, trained.read_bytes()))
    varying = {"seconds": 0, "crc32": 0}
    assert one | varying == two | varying
    changed = json.dumps(two | {"samples": two["samples"] + 1}, indent=2)
    for damaged in ("{", "[]", '{"ess": 2}', "[" * 100_000, changed):
        trained.write_text(damaged)
        assert "trained.json is damaged" in fails(capsys, "show", "run")
        out(capsys, "train", "run/config.toml", "--out", "run")  # as the error says
        assert json.loads(trained.read_bytes())["ess"] == one["ess"]


def test_settings_without_effect_are_refused(here, capsys):
    for key in ("checkpoint_every", "max_bad_steps"):
        words = fails(capsys, "sample", "run", f"training.{key}=7")
        assert f"only [sampling] and training.device can change after training: training.{key} was" in words
    out(capsys, "train", "u1.toml", "--out", "run", "training.checkpoint_every=7", "training.max_bad_steps=3")


def test_an_import_can_be_repeated(here, capsys):
    """As it was; another one takes another folder."""
    space = lattice.GaugeField(SU(2), (2, 2, 2, 2))
    write_configuration("lat", space.group.identity(4, 2, 2, 2, 2), "nersc")
    words = ("import", "lat", "--out", "brought", "action.beta=2.0", "sampling.thermalise=2")
    assert out(capsys, *words) == out(capsys, *words)
    out(capsys, "sample", "brought", "-n", "3")
    out(capsys, *words)
    assert ChainFile("brought/ensemble.h5").n_updates == 3
    refusal = fails(capsys, "import", "lat", "--out", "brought", "action.beta=3.0")
    assert "lattice-flows sample brought goes on with it, --out takes another folder" in refusal


def test_an_array_of_a_run_that_is_called_as_a_shipped_model(here, capsys):
    """Its tasks sample the run, and not that model."""
    name = models.available()[0]
    shutil.copytree("run", name)
    script = out(capsys, "submit", "u1.toml", "--out", name, "--jobs", "sample", "--array", "0-1", "--dry-run")
    (line,) = re.findall(r"^set -- (.*)$", script, re.MULTILINE)[:1]
    run = shlex.split(line)[0]
    assert Path(run).samefile(name)
    assert runs.load_model(run).facts.step == 12


def test_totals_of_prolonged_runs(here, capsys):
    """The status is that of the last command, and not of the first."""
    assert "60/60" in out(capsys, "status", "run")
    out(capsys, "sample", "run", "-n", "80")
    assert "80/80" in out(capsys, "status", "run")
    out(capsys, "train", "u1.toml", "--out", "run", "training.steps=15")
    assert "15/15" in out(capsys, "status", "run")
    assert len(read_metrics(Path("run/metrics.jsonl"))) == 15


def test_a_folder_that_holds_another_run_than_that_of_a_model(here, capsys):
    out(capsys, "export", "run", "one.safetensors", "-n", "50")
    out(capsys, "train", "u1.toml", "--out", "run", "training.steps=13")
    out(capsys, "export", "run", "two.safetensors", "-n", "50")
    out(capsys, "sample", "--model", "one.safetensors", "--out", "copy", "-n", "20")
    refusal = fails(capsys, "sample", "--model", "two.safetensors", "--out", "copy", "-n", "20")
    assert "lattice-flows sample copy goes on with it, --out takes another folder" in refusal
    out(capsys, "sample", "copy", "-n", "21")
    out(capsys, "sample", "--model", "two.safetensors", "--out", "another", "-n", "20")
    for folder, model, words in (("run", "one", "from random weights"), ("begun", "two", "from other weights")):
        train = ("train", "u1.toml", "training.steps=14", "--out")
        if folder == "begun":
            out(capsys, *train, folder, "--from", "one.safetensors", "--steps", "1")
        refusal = fails(capsys, *train, folder, "--from", f"{model}.safetensors")
        assert words in refusal
        assert "leave --from out to go on with it, or take another folder" in refusal
        assert "trained for 14 steps" in out(capsys, *train, folder)


def test_what_is_not_made_yet_names_the_command_that_makes_it(here, capsys):
    Path("run/ensemble.h5").unlink()
    Path("run/checkpoint.pt").unlink()
    assert "nothing is trained yet: lattice-flows train CONFIG --out run" in fails(capsys, "sample", "run")
    out(capsys, "train", "u1.toml", "--out", "run")
    for command in (("measure", "run"), ("export", "run", "lat", "--format", "nersc"), ("compare", "run")):
        assert "nothing is sampled yet: lattice-flows sample run does that" in fails(capsys, *command)
    out(capsys, "sample", "run")
    out(capsys, "measure", "run")


def test_a_config_that_was_edited_is_put_back(here, capsys):
    text = Path("run/config.toml").read_text()
    Path("run/config.toml").write_text(text.replace("beta = 1.0", "beta = 2.0"))
    assert "action.beta was 1.0 and is now 2.0; put that back in config.toml" in fails(
        capsys, "sample", "run", "-n", "61"
    )
    Path("run/config.toml").write_text(text)
    out(capsys, "sample", "run", "-n", "61")
