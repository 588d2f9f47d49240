"""Writes the tables of the experiments' READMEs, and their figures, from what expected.json holds.

    python experiments/tables.py

A table stands between the lines <!-- table --> and <!-- end of table --> of FOLDER/README.md; the one of the index,
experiments/README.md, has the claims of all folders.
"""

import json
import re
from pathlib import Path

from figure import PUBLISHED, draw, without_learning

from lattice_flows.report import bracketed

ROOT = Path(__file__).parent
FOLDERS = ("u1_2d", "su2_2d", "su3_2d", "su4_2d", "volume")
NAME = re.compile(r"(?P<group>u1|su\d)_2d_L(?P<L>\d+)_beta(?P<beta>[\d.]+)(_seed(?P<seed>\d))?( at L=(?P<at>\d+))?")


def rows(folder: str) -> list[dict[str, str]]:
    """One row a claim, every number with its error."""
    table = []
    for name, claim in json.loads((ROOT / folder / "expected.json").read_text(encoding="utf-8")).items():
        match = NAME.match(name)
        assert match, name
        group = "U(1)" if match["group"] == "u1" else f"SU({match['group'][2:]})"
        beta, extent = float(match["beta"]), match["at"] or match["L"]
        published = [values[beta] for values in PUBLISHED.get(match["group"], {}).values() if beta in values]
        plaquette = claim["observables"]["plaquette"]
        slowest = claim["observables"].get("topological_charge", plaquette)
        label = f"{group} {extent}x{extent}, beta = {match['beta']}"
        label += f", seed {match['seed']}" if match["seed"] else ""
        label += ", fine-tuned" if name.endswith("fine-tuned") else ""
        label += f", carried from {match['L']}x{match['L']}" if match["at"] and not name.endswith("tuned") else ""
        table.append(
            {
                "system": label,
                "ESS": bracketed(claim["ess"], claim["ess_error"]),
                "forward ESS": bracketed(claim["forward_ess"], claim["forward_ess_error"])
                if "forward_ess" in claim
                else "-",
                "published": " / ".join(f"{value:.2f}" for value in published) if published and extent == "16" else "-",
                "no learning": f"{without_learning(group, beta):.3f}",
                "plaquette": bracketed(plaquette["value"], plaquette["error"]),
                "exact": f"{plaquette['exact']:.7f}",
                "tau_int": bracketed(slowest["tau_int"], slowest["tau_int_error"])
                + (" (Q)" if group == "U(1)" else ""),
                "CPU min": f"{claim['training_cpu_minutes']:.1f}",
            }
        )
    return sorted(table, key=lambda row: row["system"])


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
        if (ROOT / folder / "expected.json").exists()
        for row in rows(folder)
    ]


def main() -> None:
    for folder in FOLDERS:
        if not (ROOT / folder / "expected.json").exists():
            continue
        readme = ROOT / folder / "README.md"
        readme.write_text(with_table(readme.read_text(encoding="utf-8"), markdown(rows(folder))), encoding="utf-8")
        draw(ROOT / folder).savefig(ROOT / folder / "figure.png", dpi=120, metadata={"Software": ""})
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), markdown(index())), encoding="utf-8")


if __name__ == "__main__":
    main()
