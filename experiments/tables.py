"""Writes the tables of the experiments' READMEs, and their figures, from what expected.json holds.

    python experiments/tables.py

A table stands between the lines <!-- table --> and <!-- end of table --> of FOLDER/README.md; the one of the index,
experiments/README.md, has the claims of all folders.
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from claims import PUBLISHED, Claim, read, without_learning
from figure import save

from lattice_flows.actions import Action
from lattice_flows.lattice.space import gauge_field
from lattice_flows.reports.words import bracketed

ROOT = Path(__file__).parent
FOLDERS = ("u1_2d", "su2_2d", "su3_2d", "su4_2d", "volume")


def rows(folder: str) -> list[dict[str, str]]:
    """One row a claim, every number with its error."""
    return sorted((_row(claim) for claim in read(ROOT / folder)), key=lambda row: row["system"])


def _row(claim: Claim) -> dict[str, str]:
    measured = claim.measured
    published = [values[claim.beta] for values in PUBLISHED.get(claim.group, {}).values() if claim.beta in values]
    plaquette = measured["observables"]["plaquette"]
    slowest = measured["observables"].get("topological_charge", plaquette)
    forward = bracketed(measured["forward_ess"], measured["forward_ess_error"]) if "forward_ess" in measured else "-"
    return {
        "system": claim.system,
        "ESS": bracketed(measured["ess"], measured["ess_error"]),
        "forward ESS": forward,
        "published": " / ".join(f"{value:.2f}" for value in published) if published and claim.extent == 16 else "-",
        "no learning": f"{without_learning(claim.group, claim.beta):.3f}",
        "plaquette": bracketed(plaquette["value"], plaquette["error"]),
        "exact": f"{plaquette['exact']:.7f}",
        "tau_int": bracketed(slowest["tau_int"], slowest["tau_int_error"]) + (" (Q)" if claim.group == "U(1)" else ""),
        "CPU min": f"{measured['training_cpu_minutes']:.1f}",
    }


def markdown(table: list[dict[str, str]]) -> str:
    """The rows as a table."""
    head = list(table[0])
    lines = [head, ["---"] * len(head), *([row[key] for key in head] for row in table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_table(text: str, table: str) -> str:
    """The text with its table replaced."""
    return re.sub(
        r"(<!-- table -->\n).*?(<!-- end of table -->)", lambda m: f"{m[1]}\n{table}\n{m[2]}", text, flags=re.DOTALL
    )


def write_table(folder: Path, table: str) -> None:
    """Puts a table in the place of the one in the folder's README."""
    readme = folder / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), table), encoding="utf-8")


def record(path: Path, name: str, entry: dict) -> None:
    """Adds an entry to a file of results, in the place of an older one of that name."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(found | {name: entry}, indent=2) + "\n", encoding="utf-8")


def theory(action: Action) -> str:
    """Group, extents and coupling in words."""
    space = gauge_field(action.space)
    return f"{space.group} {'x'.join(map(str, space.lattice.extents))}, beta = {action.beta:g}"


def measuring_program(
    description: str | None,
    measure: Callable[[str], tuple[str, dict]],
    table: Callable[[dict], str],
    readme: str = "README.md",
    expected: str = "expected.json",
) -> None:
    """The command line of a program that measures runs, or writes the table of a folder of claims.

    Args:
        measure: the name and the claims of a run, by its folder.
        table: the table of all claims.
        readme, expected: the files of a folder with its table and with its claims.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--out", type=Path, help="JSON file that the claims are added to")
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="write what is claimed there to its README")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for run in arguments.runs:
        name, claim = measure(run)
        print(name, json.dumps(claim, indent=1))
        if arguments.out is not None:
            record(arguments.out, name, claim)
    if arguments.table is not None:
        text, found = arguments.table / readme, json.loads((arguments.table / expected).read_text(encoding="utf-8"))
        text.write_text(with_table(text.read_text(encoding="utf-8"), table(found)), encoding="utf-8")


def index() -> list[dict[str, str]]:
    """The rows of the index of claims."""
    return [
        {
            "claim": f"[{folder}]({folder}/README.md): {row['system']}",
            "ESS": row["ESS"],
            "published": row["published"],
            "no learning": row["no learning"],
            "CPU min": row["CPU min"],
        }
        for folder in FOLDERS
        for row in rows(folder)
    ]


def main() -> None:
    for folder in FOLDERS:
        write_table(ROOT / folder, markdown(rows(folder)))
        save(ROOT / folder)
    write_table(ROOT, markdown(index()))


if __name__ == "__main__":
    main()
