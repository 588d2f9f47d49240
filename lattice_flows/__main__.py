"""The program lattice-flows, also as python -m lattice_flows."""

import sys

from lattice_flows.signals import quiet_ctrl_c


def run() -> int:
    """Run the command line; return the exit code."""
    quiet_ctrl_c()
    from lattice_flows.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
