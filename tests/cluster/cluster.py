"""A Slurm of its own for the tests: one controller and two virtual nodes of two cores on this machine."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")

THEORY = """
[lattice]
group = "U1"
extents = [4, 4]
[action]
beta = 1.0
"""

CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/none
CredType=cred/none
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
TmpFS={root}/tmp.%n
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=100000,batch_sched_delay=0
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 CoresPerSocket=2 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 CoresPerSocket=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=5 State=UP
"""


def missing():
    """Why there can be no Slurm here, or None."""
    if absent := [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]:
        return f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client"
    if os.geteuid() != 0:
        return "the daemons of Slurm start jobs of other users and need root"
    return None


def _path():
    """Where programs are found: beside this Python, and where the system has its daemons."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextlib.contextmanager
def running():
    """Starts the daemons; yields the variables by which commands find them; stops them by their pid files."""
    # sockets have short names only, so it is not in the folder of the test
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        for name in ("state", "spool.n1", "spool.n2", "tmp.n1", "tmp.n2"):
            (root / name).mkdir()
        conf = root / "slurm.conf"
        conf.write_text(CONF.format(host=socket.gethostname(), ports=_free_ports(3), root=root))
        variables = {"SLURM_CONF": str(conf), "PATH": _path()}
        environment = {**os.environ, **variables}
        for words in (["slurmctld", "-c"], ["slurmd", "-N", "n1"], ["slurmd", "-N", "n2"]):
            # what a daemon inherits it hands on to jobs, and a pipe would stay open
            subprocess.run([*words, "-f", conf], check=True, env=environment, stdout=DEVNULL, stderr=DEVNULL)
        wait_for(lambda: _nodes(environment) == "idle", "nodes that are idle", 30)
        yield variables
        subprocess.run(["scancel", "--user=root"], env=environment, check=True)
        squeue = ["squeue", "--noheader"]
        wait_for(lambda: not subprocess.check_output(squeue, env=environment), "the end of all jobs", 30)
    finally:
        _stop(root)
        shutil.rmtree(root, ignore_errors=True)


def command(*words):
    """What a command prints; its complaint is in the error if it fails."""
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, f"{words}: {result.stderr}"
    return result.stdout.strip()


def facts(job):
    """What scontrol knows of a job or of a task of an array, by its name there: JobState, Restarts, ..."""
    return dict(re.findall(r"(\w+)=(\S+)", command("scontrol", "--oneliner", "show", "job", job)))


def wait_until(job, state, seconds=120):
    """Waits for a job to be in a state, and complains if it comes to another end."""

    def arrived():
        known = facts(job)
        if known["JobState"] != state and known["JobState"] not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            output = Path(known["StdOut"])
            text = output.read_text() if output.exists() else "no output"
            raise AssertionError(f"job {job} is {known['JobState']} and not {state}:\n{text}")
        return known if known["JobState"] == state else None

    return wait_for(arrived, f"job {job} to be {state}", seconds)


def wait_for(condition, what, seconds=120):
    """The first value of `condition` that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {what}")


def _nodes(environment):
    result = subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True)
    return result.stdout.strip()


def _free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _stop(root):
    pids = [int(path.read_text()) for path in root.glob("*.pid")]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 20
    while any(Path("/proc", str(pid)).exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
