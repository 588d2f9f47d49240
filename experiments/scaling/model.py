"""A model of a training step on many ranks, from what expected.json has of two; draws figure.png.

    python experiments/scaling/model.py

T(R) = fixed + sample * (samples a rank) + message(R, bytes), the bytes being 4 for each parameter and for each sample
of the batch, whose log-weights travel with the gradients. A sum over R ranks by recursive halving and doubling takes
2 log2(R) latencies, and moves 2 (R - 1) / R of the bytes through each rank.

Source: R. Thakur, R. Rabenseifner, W. Gropp, Int. J. High Perform. Comput. Appl. 19 (2005) 49, Section 4.
"""

import json
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

HERE = Path(__file__).parent
RANKS = [2**k for k in range(11)]


class Model:
    """Costs in seconds, from measurements.

    Args:
        measured: what `scaling.py` wrote.
        latency, seconds_per_byte: of a network; by default those measured between two ranks of one node.
    """

    def __init__(self, measured: dict, latency: float | None = None, seconds_per_byte: float | None = None):
        batches = {int(batch): seconds for batch, seconds in measured["seconds_by_batch"].items()}
        self.sample, self.fixed = np.polyfit(list(batches), list(batches.values()), 1)
        messages = {int(size): seconds for size, seconds in measured["message_seconds"].items()}
        smallest, largest = min(messages), max(messages)
        # two ranks: two latencies, and all bytes once
        self.latency = messages[smallest] / 2 if latency is None else latency
        self.seconds_per_byte = messages[largest] / largest if seconds_per_byte is None else seconds_per_byte
        self.parameters = measured["parameters"]

    def message(self, ranks: int, batch: int) -> float:
        """Of one sum over all ranks."""
        size = 4 * (self.parameters + batch)
        return 2 * math.log2(ranks) * self.latency + 2 * (ranks - 1) / ranks * size * self.seconds_per_byte

    def step(self, ranks: int, batch: int) -> float:
        """Of a step with a global batch."""
        return self.fixed + self.sample * batch / ranks + self.message(ranks, batch)

    def weak(self, ranks: int, each: int) -> float:
        """The efficiency with `each` samples on each rank."""
        return self.step(1, each) / self.step(ranks, each * ranks)

    def strong(self, ranks: int, batch: int) -> float:
        """The efficiency with a global batch."""
        return self.step(1, batch) / (ranks * self.step(ranks, batch))


def figure(measured: dict) -> Figure:
    """Efficiencies against the number of ranks, weak and strong."""
    batch = measured["batch"]
    models = {
        "latency and bandwidth as measured": Model(measured),
        "a network of 20 us and 1 GB/s": Model(measured, latency=20e-6, seconds_per_byte=1e-9),
    }
    drawn = Figure(figsize=(9, 4), layout="constrained")
    weak, strong = drawn.subplots(1, 2, sharey=True)
    for (label, model), style in zip(models.items(), ("-", "--"), strict=True):
        weak.plot(RANKS, [model.weak(ranks, batch) for ranks in RANKS], style, color="C0", label=label)
        for colour, whole in (("C1", batch), ("C2", 128 * batch)):
            ranks = [r for r in RANKS if r <= whole]
            name = f"batch {whole:,}" if style == "-" else None
            strong.plot(ranks, [model.strong(r, whole) for r in ranks], style, color=colour, label=name)
    low, high = min(measured["efficiencies"]), max(measured["efficiencies"])
    point = measured["efficiency"]
    bars = [[point - low], [high - point]]
    strong.errorbar([2], [point], yerr=bars, fmt="o", color="C1", capsize=3, label="measured, and its range")
    weak.set(
        title=f"Weak scaling, {batch} samples a rank", xlabel="ranks", ylabel="efficiency", xscale="log", ylim=(0, 1.05)
    )
    strong.set(title="Strong scaling", xlabel="ranks", xscale="log")
    for axes in (weak, strong):
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower left")
    return drawn


def main() -> None:
    measured = json.loads((HERE / "expected.json").read_text())
    figure(measured).savefig(HERE / "figure.png", dpi=120)
    model = Model(measured)
    print(
        f"fixed {1e3 * model.fixed:.1f} ms, a sample {1e3 * model.sample:.2f} ms, latency {1e6 * model.latency:.1f} us"
    )
    print(f"{1e-9 / model.seconds_per_byte:.2f} GB/s")
    for ranks in (2, 16, 128, 1024):
        print(ranks, f"weak {model.weak(ranks, 128):.3f} strong {model.strong(ranks, 128 * 128):.3f}")
        print("   strong, batch 128:", f"{model.strong(ranks, 128):.3f}")


if __name__ == "__main__":
    main()
