"""The benchmark, the accuracy program and their samples, which stand in experiments/kernels, can be imported."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "kernels"))
