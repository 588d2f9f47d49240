"""python -m lattice_flows: the command line."""

import sys

from lattice_flows.cli import main

if __name__ == "__main__":
    sys.exit(main())
