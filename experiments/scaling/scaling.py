"""The cost of a training step on one rank and on two, and a model for more ranks.

    python experiments/scaling/scaling.py --out experiments/scaling/expected.json

Takes about four minutes on two idle cores. Pairs of runs on one rank and on two, of the same global batch, take turns;
each gives the median of its steps but the first two. Then one rank with smaller batches, for the cost of a sample and
the part of a step that does not shrink, and messages of all sizes between two ranks, for latency and bandwidth.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PAIRS = 4
BATCHES = (16, 32, 64, 128)
SIZES = [2**k for k in range(3, 25, 3)]

MESSAGES = """
import json, sys, time
import torch
from mpi4py import MPI
from lattice_flows.distributed import MPIWorld
world = MPIWorld(MPI.COMM_WORLD)
times = {}
for size in json.loads(sys.argv[1]):
    buffer = torch.zeros(size // 4)
    best = []
    for repeat in range(30):
        world.barrier()
        begin = time.perf_counter()
        for _ in range(10):
            world.sum_(buffer)
        best.append((time.perf_counter() - begin) / 10)
    times[size] = sorted(best)[len(best) // 2]
if world.first:
    print(json.dumps(times))
"""


def launch(ranks: int, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = ["mpiexec", "-n", str(ranks), sys.executable, *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


def steps(ranks: int, batch: int) -> dict[str, float]:
    """The median of every time of a step, in seconds, and the peak memory of rank 0 in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        code = (
            "import re, sys\nfrom lattice_flows.cli import main\nmain(sys.argv[1:])\n"
            "from mpi4py import MPI\npeak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"
            "print('peak', max(MPI.COMM_WORLD.allgather(int(peak))), flush=True)"
        )
        words = ["-c", code, "train", str(HERE / "config.toml"), "--out", str(run), f"training.batch={batch}"]
        printed = launch(ranks, *words).stdout
        records = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()][2:]
        parameters = re.search(r"([\d,]+) parameters", _shown(run))
    names = [name for name in records[0] if "seconds" in name and name != "cpu_seconds"]
    found = {name: statistics.median(record[name] for record in records) for name in names}
    peak = max(int(value) for value in re.findall(r"peak (\d+)", printed)) / 1024
    return found | {"peak_mib": peak, "parameters": float(parameters[1].replace(",", ""))}


def _shown(run: Path) -> str:
    words = [sys.executable, "-m", "lattice_flows", "show", str(run)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def measure() -> dict:
    """All measurements, as they go into expected.json."""
    pairs = [[steps(ranks, BATCHES[-1]) for ranks in (1, 2)] for _ in range(PAIRS)]
    ratios = [one["seconds"] / (2 * two["seconds"]) for one, two in pairs]
    two = [pair[1] for pair in pairs]
    share = statistics.median(step["communication_seconds"] / step["seconds"] for step in two)
    batches = {batch: steps(1, batch) for batch in BATCHES}
    messages = json.loads(launch(2, "-c", MESSAGES, json.dumps(SIZES)).stdout)
    return {
        "batch": BATCHES[-1],
        "parameters": int(two[0]["parameters"]),
        "efficiency": statistics.median(ratios),
        "efficiencies": ratios,
        "communication_share": share,
        "step": {"1": _median(pair[0] for pair in pairs), "2": _median(two)},
        "seconds_by_batch": {str(batch): step["seconds"] for batch, step in batches.items()},
        "message_seconds": messages,
    }


def _median(records) -> dict[str, float]:
    records = list(records)
    return {name: statistics.median(record[name] for record in records) for name in records[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the result (default: standard output)")
    arguments = parser.parse_args()
    text = json.dumps(measure(), indent=2) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
