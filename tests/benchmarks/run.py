"""All benchmarks in one go: every file here with a function ``rows``. Run: python tests/benchmarks/run.py

``--only NAME`` runs one file; ``--json`` prints the rows as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and numpy are imported

from table import Row, table


def main() -> None:
    here = Path(__file__).parent
    names = sorted(path.stem for path in here.glob("*.py") if "\ndef rows(" in path.read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=names, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: list[Row] = []
    for name in options.only or names:
        print(f"{name} …", file=sys.stderr, flush=True)
        new = importlib.import_module(name).rows()
        print(table(new), file=sys.stderr, flush=True)  # what is measured stays, whatever becomes of the rest
        found += new
    print(json.dumps(found, indent=2) if options.json else table(found))


if __name__ == "__main__":
    main()
