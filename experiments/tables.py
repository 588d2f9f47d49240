"""Writes the tables of the experiments' READMEs, and their figures, from what expected.json holds.

    python experiments/tables.py

A table stands between the lines <!-- table --> and <!-- end of table --> of FOLDER/README.md; the one of the index,
experiments/README.md, has the claims of all folders.
"""

import json
import re
from pathlib import Path

from claims import PUBLISHED, Claim, read, without_learning
from figure import save

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
