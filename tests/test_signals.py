"""Requests to stop: whatever the moment, nothing is lost and there is no traceback."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lattice_flows import cli, runs
from lattice_flows.io import read_metrics

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
steps = 30
batch = 64
checkpoint_every = 10
device = "cpu"
[sampling]
updates = ["flow", "heatbath"]
chains = 2
thermalise = 10
n = 150
batch = 50
"""
TRIALS = int(os.environ.get("LATTICE_FLOWS_KILLS", "20"))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PROGRAM = "import sys; from lattice_flows.__main__ import run; sys.exit(run())"


def python(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True, **options)


def heed():
    """Where the tests run in the background of a shell, they have inherited that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def forked(errors, *arguments):
    """The process id of the command line in a fork of this process, which writes what it says to a file."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    if process := os.fork():
        signal.signal(signal.SIGINT, before)
        return process
    code = 1
    try:
        with open(errors, "wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        runs.sample.COMMIT_SECONDS = 0.02
        sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        code = cli.main(arguments)
    finally:
        os._exit(code)


@pytest.mark.parametrize("command", ["train", "sample"])
def test_a_signal_at_any_moment(tmp_path, command):
    """The same command goes on, and ends as it would have."""
    path, run, errors = tmp_path / "u1.toml", str(tmp_path / "run"), tmp_path / "errors"
    path.write_text(CONFIG)
    train = ("train", str(path), "--out", run)
    if command == "sample":
        assert cli.main(train) == 0
        shutil.copytree(run, tmp_path / "trained")
    words = train if command == "train" else ("sample", run)
    rng, longest = random.Random(3), 0.8
    for trial in range(TRIALS // 2):
        since = time.monotonic()
        process = forked(errors, *words)
        time.sleep(rng.uniform(0, longest))
        sent = SIGNALS[trial % 3]
        os.kill(process, sent)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said = errors.read_text()
        assert code in (0, 75, -sent), said
        assert "Traceback" not in said
        if code == 75:
            assert "the same command goes on" in said
        if code == 0:  # it has come to its end: from the start again
            longest = min(longest, time.monotonic() - since)
            shutil.rmtree(run)
            if command == "sample":
                shutil.copytree(tmp_path / "trained", run)
    assert cli.main(words) == 0
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 30
    assert runs.read_trained(tmp_path / "run").step == 30


def test_ctrl_c_of_the_program_at_its_start(tmp_path):
    """While it imports, too."""
    (tmp_path / "u1.toml").write_text(CONFIG)
    begin = "import os, signal; signal.signal(2, signal.SIG_DFL); os.write(2, b'.')\n"
    for pause in (0.02, 0.5):
        words = ("train", str(tmp_path / "u1.toml"), "--out", str(tmp_path / "run"), "training.steps=100000")
        with python(begin + PROGRAM, *words, preexec_fn=heed) as process:
            process.stderr.read(1)
            time.sleep(pause)
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=100)[1]
        assert process.returncode in (75, -signal.SIGINT), error
        assert "Traceback" not in error
        assert "KeyboardInterrupt" not in error


def test_the_program_makes_ctrl_c_quiet():
    for before in ("SIG_DFL", "default_int_handler", "SIG_IGN"):
        code = f"import signal; signal.signal(2, signal.{before})\nfrom lattice_flows import __main__, cli\n"
        code += "cli.main = lambda: signal.getsignal(2)\nimport sys; sys.stderr.write(__main__.run().name)"
        with python(code) as process:
            assert process.communicate()[1] == ("SIG_IGN" if before == "SIG_IGN" else "SIG_DFL")


STOP = """
import os, time
from lattice_flows.signals import Stop
with Stop() as stop:
    os.write(2, b".")
    while True:
        time.sleep(0.01)
        if stop.asked:
            os.write(2, b"asked")
            time.sleep(100)
"""


def test_the_first_ctrl_c_asks_and_the_second_ends():
    with python(STOP, preexec_fn=heed) as process:
        assert process.stderr.read(1) == "."
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # as a launcher may hand on, beside the terminal
        assert process.stderr.read(5) == "asked"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == -signal.SIGINT
        assert process.stderr.read() == ""


def test_ctrl_c_that_was_ignored_stays_so():
    ignore = "import signal; signal.signal(2, signal.SIG_IGN)\n"
    with python(ignore + STOP) as process:
        assert process.stderr.read(1) == "."
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read(5) == "asked"
        process.kill()
