"""How long it takes to know what a large data set holds, and what memory that needs.

Run by hand: `python tests/benchmarks/bench_index.py`. Two bounds:

- a BIDS tree of 20,000 files (1,000 persons: six images with sidecars, six masks, two disc labels) is indexed by
  `data.bids` in under 5 s and 500 MiB, the process's peak with Python and all imports;
- an index of 1,000,000 rows is opened from Parquet, filtered by contrast and label, and split by person into five
  folds (fold 0), all in under 2 s.

Each figure comes from a process of its own, three times. Time includes neither the start of Python nor imports
(listed apart). Judged is the median of the CPU time of all threads: on an idle machine no wall time is longer, as the
files lie in the page cache, and on a busy one it is still the same; wall times stand beside. The files are empty:
no voxel is read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_setup import conclude, environment, table

BOUNDS = {"bids_s": 5.0, "bids_MiB": 500.0, "rows_s": 2.0}
ENDINGS = {
    "T1w": "T1w",
    "T2w": "T2w",
    "T2star": "T2star",
    "MTon": "flip-1_mt-on_MTS",
    "GRE-T1w": "flip-2_mt-off_MTS",
    "DWI": "rec-average_dwi",
}


def make_tree(root: Path, persons: int) -> int:
    """Write the tree; return the number of files."""
    count = 2
    rows = ["participant_id\tsite"]
    for n in range(1, persons + 1):
        person = f"sub-{n:04d}"
        rows.append(f"{person}\tsite{n % 40:02d}")
        for contrast, ending in ENDINGS.items():
            kind = "dwi" if contrast == "DWI" else "anat"
            raw = root / person / kind
            derived = root / "derivatives" / "labels" / person / kind
            raw.mkdir(parents=True, exist_ok=True)
            derived.mkdir(parents=True, exist_ok=True)
            stem = f"{person}_{ending}"
            (raw / f"{stem}.nii.gz").touch()
            (raw / f"{stem}.json").write_text(
                json.dumps({"Manufacturer": ("A", "B", "C")[n % 3], "EchoTime": 0.1})
            )
            (derived / f"{stem}_label-SC_seg.nii.gz").touch()
            count += 3
            if contrast in ("T1w", "T2w"):
                (derived / f"{stem}_label-discs_dlabel.nii.gz").touch()
                count += 1
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "benchmark", "BIDSVersion": "1.9.0"}')
    return count


def make_rows(path: Path, rows: int) -> None:
    """Write an index: four contrasts and two sessions a person, two thirds labelled, 50 domains."""
    import pyarrow as pa
    from mriad.vocabulary import LabelSet
    from mriad_data.index import TableIndex

    contrasts = ("T1w", "T2w", "FLAIR", "DWI")
    persons = [f"sub-{n // 8:06d}" for n in range(rows)]
    sessions = [str(n // 4 % 2) for n in range(rows)]
    names = [
        f"{p}_ses-{s}_{contrasts[n % 4]}" for n, (p, s) in enumerate(zip(persons, sessions, strict=True))
    ]
    columns = {
        "id": names,
        "person": persons,
        "contrast": [contrasts[n % 4] for n in range(rows)],
        "domain": [f"site{n // 8 % 50:02d}" for n in range(rows)],
        "session": sessions,
        "image:image": [f"{p}/anat/{name}.nii.gz" for p, name in zip(persons, names, strict=True)],
        "label:hard": [f"derivatives/labels/{n}_seg.nii.gz" if k % 3 else None for k, n in enumerate(names)],
        "kind:hard": ["hard"] * rows,
    }
    index = TableIndex(pa.table(columns), LabelSet.of({"cord": 1}), "/data")
    index.write(path)
    index.write(path.with_suffix(".arrow"))


def bids(root: Path, domain: str) -> dict[str, float]:
    """Index the tree."""
    began = time.perf_counter()
    import mriad_data.bids_reading  # noqa: F401  (the imports are timed apart)
    from mriad_data.bids import Bids

    imported, cpu = time.perf_counter(), time.process_time()
    index = Bids(
        root=root,
        contrasts=list(ENDINGS),
        labels={"hard": "label-SC_seg"},
        structures={"cord": 1},
        annotations={"discs": "label-discs_dlabel"},
        domain=domain,
    ).build()
    used = {"seconds": time.perf_counter() - imported, "cpu_s": time.process_time() - cpu}
    return {"import_s": imported - began, **used, "cases": len(index)}


def rows(path: Path) -> dict[str, float]:
    """Open, filter and split the index."""
    began = time.perf_counter()
    import pyarrow.parquet  # noqa: F401
    from mriad_data.index import TableIndex
    from mriad_data.splits import KFold

    imported, cpu = time.perf_counter(), time.process_time()
    index = TableIndex.open(path)
    opened = time.perf_counter()
    chosen = index.where(contrast=["T1w", "T2w", "FLAIR", "DWI"], has=["image:image"])
    filtered = time.perf_counter()
    sides = KFold(k=5).build(chosen, 0, seed=0)
    ended = time.perf_counter()
    used = {"seconds": ended - imported, "cpu_s": time.process_time() - cpu}
    assert sum(map(len, sides.values())) == len(chosen) == len(index)  # the filter keeps all: the worst case
    parts = {"open_s": opened - imported, "filter_s": filtered - opened, "split_s": ended - filtered}
    return {"import_s": imported - began, **parts, **used, "cases": len(index)}


def measured(*arguments: str, times: int = 3) -> dict[str, Any]:
    """Run a part in processes of its own; medians, and all totals."""
    found = []
    for _ in range(times):
        command = [sys.executable, __file__, "child", *arguments]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    middle = {key: statistics.median(row[key] for row in found) for key in found[0]}
    return middle | {"all_seconds": [round(row["seconds"], 3) for row in found]}


def main(persons: int, count: int, out: Path | None) -> None:
    """Make, measure, judge."""
    with tempfile.TemporaryDirectory() as place:
        tree, path = Path(place) / "bids", Path(place) / "index.parquet"
        files = make_tree(tree, persons)
        # In a process of its own: a child counts the memory of the process that it was forked from.
        command = [sys.executable, __file__, "child", "make", str(path), str(count)]
        subprocess.run(command, env=environment(), check=True)
        result: dict[str, Any] = {
            "files": files,
            "rows": count,
            "bids": measured("bids", str(tree), "contrast"),
            "bids, domain of participants.tsv": measured("bids", str(tree), "participants:site"),
            "bids, domain of sidecars": measured("bids", str(tree), "sidecar:Manufacturer"),
            "index": measured("rows", str(path)),
            "index, Arrow file": measured("rows", str(path.with_suffix(".arrow"))),
            "MiB_on_disk": {p.suffix: p.stat().st_size / 2**20 for p in Path(place).glob("index.*")},
        }
    lines = [
        [
            name,
            f"{found['cpu_s']:.2f} s",
            f"{found['seconds']:.2f} s",
            f"{found['peak_MiB']:.0f} MiB",
            int(found["cases"]),
            found["all_seconds"],
        ]
        for name, found in result.items()
        if isinstance(found, dict) and "seconds" in found
    ]
    table(["medians", "CPU time", "wall", "peak memory", "cases", "wall of each run"], lines)
    parts = ("open_s", "filter_s", "split_s", "import_s")
    table(
        ["wall", *parts],
        [[name, *(f"{result[name][p]:.3f}" for p in parts)] for name in ("index", "index, Arrow file")],
    )
    result["met"] = (
        result["bids"]["cpu_s"] < BOUNDS["bids_s"]
        and result["bids"]["peak_MiB"] < BOUNDS["bids_MiB"]
        and result["index"]["cpu_s"] < BOUNDS["rows_s"]
    )
    conclude(result, out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        kind, target = sys.argv[2], Path(sys.argv[3])
        if kind == "make":
            make_rows(target, int(sys.argv[4]))
            sys.exit()
        figures = bids(target, sys.argv[4]) if kind == "bids" else rows(target)
        scale = 1024 if sys.platform != "darwin" else 1024**2
        figures["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
        print(json.dumps(figures))
        sys.exit()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--persons", type=int, default=1000, help="20 files each")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    os.umask(0o022)
    main(given.persons, given.rows, given.out)
