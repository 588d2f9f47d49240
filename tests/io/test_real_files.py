"""The program that compares a folder with the table of README.md."""

import torch
from real_files import fault, main, table

from lattice_flows import SU
from lattice_flows.io import write_configuration


def test_rows_and_faults(tmp_path, capsys):
    rows = table()
    read = [row for row in rows.values() if not row[2].startswith("refused")]
    assert len(rows) == 160
    assert len(read) == 94
    assert all(float(row[2].split()[-1]) <= 1 for row in read)
    write_configuration(tmp_path / "cold", SU(3).identity(4, 2, 2, 2, 4, dtype=torch.float64), "nersc")
    good = "nersc SU(3) 2x2x2x4 64 1.0000000000"
    assert (
        fault(tmp_path / "cold", "-", "-", good) == fault(tmp_path / "cold", "SU(3) 2x2x2x4", "0.9999999", good) == ""
    )
    for row in (
        ("-", "0.9", good),
        ("-", "-", good.replace("2x4", "4x2")),
        ("-", "-", good.replace("1.00", "0.99")),
        ("-", "-", "refused: a reason"),
        ("SU(2) 2x2x2x4", "-", good),
    ):
        assert fault(tmp_path / "cold", *row), row
    assert main(tmp_path)  # a folder without any of the files
    assert capsys.readouterr().out.startswith("0 of 160 files found")
