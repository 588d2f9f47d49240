"""Names and strings as file systems and editors make them: what is written can be read again, and is shown safely."""

import os
import sys
from pathlib import Path

import pytest
from command_line import fails, out

import lattice_flows
from lattice_flows.config import Config, load, loads, to_toml
from lattice_flows.errors import InvalidInput

THEORY = {"lattice": {"group": "U(1)", "extents": (4, 4)}, "action": {"beta": 1.0}}
CONFIG = Config.of(
    **THEORY,
    flow={"layers": 4, "hidden": (4,), "bins": 4},
    training={"steps": 2, "batch": 8, "device": "cpu"},
    sampling={"n": 20},
)
BYTES = os.fsdecode(b"\xff")
ODD = ["β = 2\nb\x7f\x1b[1m\t", f"\"'\\ #{BYTES}"]


@pytest.mark.skipif(sys.getfilesystemencoding() != "utf-8", reason="names are bytes of another encoding here")
@pytest.mark.parametrize("name", ODD)
def test_a_run_of_any_name(name, tmp_path, capsys, monkeypatch):
    """Every file of a run is made and read again, and nothing that is printed controls the terminal."""
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(to_toml(CONFIG))
    file = f"{name}.safetensors"
    said = [
        out(capsys, *words)
        for words in (
            ("train", "config.toml", "--out", name),
            ("sample", name),
            ("measure", name),
            ("show", name),
            ("compare", name),
            ("status", name),
            ("export", name, file, "-n", "20"),
            ("sample", "--model", file, "--out", f"{name}2"),
            ("show", f"{name}2"),
            ("sample", "--model", f"{name}2", "--out", f"{name}3"),
            ("status", name, f"{name}3"),
        )
    ]
    assert all(text.replace("\n", "").isprintable() for text in said)
    assert len(said[-1].splitlines()) == 1 + 3 + 1
    assert lattice_flows.load(file).name.isprintable()
    assert fails(capsys, "show", f"{name}4").isprintable()


@pytest.mark.parametrize("name", ["a\0b", "\ud83d", BYTES])
def test_what_no_file_can_hold_is_refused_before_anything_is_written(name, tmp_path, capsys):
    with pytest.raises(InvalidInput, match=r"start must be text in UTF-8, without NUL, got "):
        Config.of(**THEORY, sampling={"start": name})
    config = tmp_path / "config.toml"
    config.write_text(to_toml(CONFIG))
    words = ("train", str(config), f"sampling.start={name}", "--out", str(tmp_path / "run"))
    assert "start must be text in UTF-8, without NUL" in fails(capsys, *words)
    assert os.listdir(tmp_path) == ["config.toml"]


@pytest.mark.parametrize("number", [*range(1, 0x20), 0x7F, 0x80, 0x85, 0xA0, 0x2028, 0xFEFF, 0xFFFF, 0x10FFFF])
def test_every_character_goes_to_toml_and_back(number, tmp_path):
    for start in (chr(number), f'"{chr(number)}\\', f"a{chr(number) * 3}= b"):
        config = Config.of(**THEORY, sampling={"start": start})
        assert loads(to_toml(config), "text") == config
        (tmp_path / "config.toml").write_bytes(to_toml(config, {"note": start}).encode())
        assert load(tmp_path / "config.toml") == config
