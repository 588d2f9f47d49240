"""What every configuration format does with a file that it cannot take."""

import pytest

from lattice_flows.errors import InvalidInput
from lattice_flows.io import read_configuration


def assert_refused(path, data, message):
    """A file with these bytes is not read: one line says why, and names it."""
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=message) as error:
        read_configuration(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
