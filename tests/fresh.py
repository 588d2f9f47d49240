"""Processes of their own for tests: forks of one that has imported the libraries, so that each begins in a moment.

A fork runs its program as `python -c` does, with variables and a folder of its own. It imports the package anew, so a
program can set before that what the package is to find. What Python reads when it starts, such as LC_ALL, is that of
the first process: tests of such variables start a Python.
"""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# A request is a line of JSON; the answer to it is a number: the id of a process, or what a process ended with.
SERVER = """
import json, os, shutil, signal, sys, time
import h5py, matplotlib.figure, numpy, safetensors.torch, scipy.interpolate, scipy.special, tomli_w, torch, tqdm
torch.set_num_threads(1)
sys.dont_write_bytecode, sys.pycache_prefix = False, sys.argv[1]

def end(process, seconds):
    until = time.monotonic() + seconds
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(ended[1])

for line in sys.stdin:
    request = json.loads(line)
    if "process" in request:
        answer = end(**request)
    elif not (answer := os.fork()):
        break
    os.write(1, b"%d\\n" % answer)
else:
    shutil.rmtree(sys.pycache_prefix, ignore_errors=True)
    sys.exit()
for number, path in enumerate((os.devnull, *request["output"])):
    os.dup2(os.open(path, os.O_RDWR), number)
os.environ.clear()
os.environ.update(request["variables"])
os.chdir(request["cwd"])
sys.argv, sys.path[0] = ["-c", *request["words"]], ""
exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})
"""


@functools.cache
def server():
    """The process that forks, which ends with this one."""
    cache = tempfile.mkdtemp(prefix="fresh-")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", SERVER, cache], env=environment, text=True, **pipes)
    atexit.register(process.communicate)
    return process


def ask(**request):
    print(json.dumps(request), file=server().stdin, flush=True)
    return int(server().stdout.readline())


class Fresh:
    """A process that runs a program; the part of subprocess.Popen that tests use."""

    def __init__(self, code, *words, env=os.environ, cwd="."):
        self.args = [code, *map(str, words)]
        self._output = [tempfile.NamedTemporaryFile(prefix="fresh-") for _ in range(2)]  # noqa: SIM115
        self.pid = ask(
            code=code, words=self.args[1:], variables=dict(env), cwd=str(Path(cwd).absolute()),
            output=[file.name for file in self._output],
        )  # fmt: skip

    def result(self, seconds=120):
        """Its exit code and output, when it has ended; after so many seconds it is killed."""
        code = ask(process=self.pid, seconds=seconds)
        texts = []
        for file in self._output:
            with file:
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(self.args, code, *texts)


def run(code, *words, **options):
    """Run a program in a process of its own; wait for its end."""
    return Fresh(code, *words, **options).result()
