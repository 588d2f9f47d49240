"""python -m lattice_flows: the command line."""

import sys

from lattice_flows.cli import main

sys.exit(main())
