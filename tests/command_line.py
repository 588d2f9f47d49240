"""The command line as a test calls it, in this process."""

from lattice_flows import cli


def out(capsys, *arguments):
    """What a command prints that succeeds."""
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def fails(capsys, *arguments):
    """The one line that a failing command prints."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.removeprefix("lattice-flows: error: ").strip()
