"""Patches from the warm store against plain memory maps, and two processes that prepare one set at once.

Run by hand: `python tests/benchmarks/bench_store.py`. Rounds of all variants are interleaved on one pinned core; the
median of each variant's rate is shown, by the clock and by CPU time; ratios are by CPU time, which others on the
machine disturb least.

Patches: 96³ voxels of image (float32) and target (uint8), copied out of volumes that lie in the page cache.
  plain         maps that were opened once with `np.load(mmap_mode="r")`: the yardstick
  store         `store.get(key)` for every patch, as a stream does, then the same copy
  sampler       `store.get(key)`, `data.patch` with half of the patches around a structure's voxel, then the copy
  plain, opened the yardstick of a set of more volumes than maps stay open: `np.load` for every patch
  store, opened the same from the store, with its maps closed after each patch
Bound: store and sampler at 80 % of plain, store, opened at 80 % of plain, opened.
  lz4, zstd     a compressed store, of images that are smooth in a ball and 0 outside it, or noise all over: patches a
                second and bytes against plain; no bound, for whoever chooses between room and rate

Preparing: `data.orient`, `data.resample` and `data.z_score` over compressed files. Two processes that start at the
same moment, into one empty store, against one; the least of interleaved rounds counts. Bound: wall and
CPU time of both together at most 110 % of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_setup import conclude, environment, table

if TYPE_CHECKING:
    from collections.abc import Callable

PATCH = 96
NEEDED = 0.8
MOST = 1.1


def patches(volumes: int, size: int, rounds: int, draws: int) -> dict[str, dict[str, float]]:
    """Patches a second of every variant."""
    from mriad.geometry import Grid
    from mriad.identity import fingerprint
    from mriad.vocabulary import Sample
    from mriad_data import store as store_module
    from mriad_data.patches import PatchDraw
    from mriad_data.store import ArrayFolder

    rng = np.random.default_rng(0)
    grid = Grid.of((size, size, size), np.eye(4))
    with tempfile.TemporaryDirectory() as place:
        store, again = ArrayFolder(Path(place)), ArrayFolder(Path(place))
        keys = [fingerprint(i) for i in range(volumes)]
        for i, key in enumerate(keys):
            image = rng.random((1, size, size, size), np.float32)
            target = np.zeros((1, size, size, size), np.uint8)
            target[0, size // 3 : size // 2, size // 3 : size // 2, size // 3 : size // 2] = 1
            store.put(key, Sample(f"case-{i}", image, grid, target))
        files = [[str(store.place(k) / f"{n}.npy") for n in ("image", "target")] for k in keys]
        plain = [[np.load(f, mmap_mode="r").view(np.ndarray) for f in pair] for pair in files]
        draw = PatchDraw((PATCH, PATCH, PATCH), 0.5)
        image = np.empty((1, PATCH, PATCH, PATCH), np.float32)
        target = np.empty((1, PATCH, PATCH, PATCH), np.uint8)

        def corner(generator: np.random.Generator) -> tuple[slice, ...]:
            at = (generator.random(3) * (size - PATCH + 1)).astype(int).tolist()
            return (slice(None), *(slice(a, a + PATCH) for a in at))

        def copy(pair: Any, box: tuple[slice, ...]) -> None:
            image[...] = pair[0][box]
            target[...] = pair[1][box]

        def from_plain(i: int, g: np.random.Generator) -> None:
            copy(plain[i], corner(g))

        def from_store(i: int, g: np.random.Generator) -> None:
            sample = store.get(keys[i])
            copy((sample.image, sample.target), corner(g))

        def through_sampler(i: int, g: np.random.Generator) -> None:
            box = draw(store.get(keys[i]), g, (0, 0, 0))
            image[...] = box.image
            target[...] = box.target

        def from_opened(i: int, g: np.random.Generator) -> None:
            copy([np.load(f, mmap_mode="r") for f in files[i]], corner(g))

        def from_store_opened(i: int, g: np.random.Generator) -> None:
            again._process.opened.clear()
            sample = again.get(keys[i])
            copy((sample.image, sample.target), corner(g))

        variants: dict[str, Callable[[int, np.random.Generator], None]] = {
            "plain": from_plain,
            "store": from_store,
            "sampler": through_sampler,
            "plain, opened": from_opened,
            "store, opened": from_store_opened,
        }
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for turn in range(rounds + 1):  # the first one warms pages, maps and the sampler's memory
            for name, function in variants.items():
                generator = np.random.default_rng(turn)
                order = generator.integers(0, volumes, draws).tolist()
                began, cpu = time.perf_counter(), time.process_time()
                for i in order:
                    function(i, generator)
                spent = time.perf_counter() - began, time.process_time() - cpu
                if turn:
                    rates[name].append((draws / spent[0], draws / spent[1]))
        found = {
            n: {"clock": median(r[0] for r in v), "cpu": median(r[1] for r in v)} for n, v in rates.items()
        }
        for name, base in (("store", "plain"), ("sampler", "plain"), ("store, opened", "plain, opened")):
            pairs = zip(rates[name], rates[base], strict=True)
            found[name]["ratio"] = median(a[1] / b[1] for a, b in pairs)
        found["maps"] = {"kept": float(store_module._OPEN)}
        return found


def compressed(volumes: int, size: int, rounds: int, draws: int) -> dict[str, dict[str, float]]:
    """Patches a second and bytes of plain and compressed stores, for two kinds of image."""
    from mriad.geometry import Grid
    from mriad.identity import fingerprint
    from mriad.vocabulary import Sample
    from mriad_data.store import ArrayFolder
    from mriad_data.store_entries import entries
    from scipy import ndimage

    rng = np.random.default_rng(0)
    grid = Grid.of((size, size, size), np.eye(4))
    axis = np.linspace(-1, 1, size) ** 2
    ball = axis[:, None, None] + axis[:, None] + axis < 0.97
    keys = [fingerprint(i) for i in range(volumes)]
    image = np.empty((1, PATCH, PATCH, PATCH), np.float32)
    target = np.empty((1, PATCH, PATCH, PATCH), np.uint8)
    found: dict[str, dict[str, float]] = {}
    for kind in ("ball", "noise"):
        with tempfile.TemporaryDirectory() as place:
            stores = {c: ArrayFolder(Path(place) / str(c), codec=c) for c in (None, "lz4", "zstd")}
            for i, key in enumerate(keys):
                voxels = rng.random((size, size, size), np.float32)
                if kind == "ball":
                    voxels = ndimage.gaussian_filter(voxels, 1) * ball
                sample = Sample(f"case-{i}", voxels[None], grid, ball[None].astype(np.uint8))
                for store in stores.values():
                    store.put(key, sample)
            rates: dict[Any, list[float]] = {codec: [] for codec in stores}
            for turn in range(rounds + 1):
                for codec, store in stores.items():
                    generator = np.random.default_rng(turn)
                    began = time.process_time()
                    for i in generator.integers(0, volumes, draws).tolist():
                        at = (generator.random(3) * (size - PATCH + 1)).astype(int).tolist()
                        box = (slice(None), *(slice(a, a + PATCH) for a in at))
                        stored = store.get(keys[i])
                        image[...] = stored.image[box]
                        target[...] = stored.target[box]
                    if turn:
                        rates[codec].append(draws / (time.process_time() - began))
            whole = sum(e.bytes for e in entries(stores[None].folder))
            for codec, store in stores.items():
                found[f"{kind}, {codec or 'plain'}"] = {
                    "cpu": median(rates[codec]),
                    "size": sum(e.bytes for e in entries(store.folder)) / whole,
                }
    return found


def write_set(folder: Path, cases: int, size: int) -> None:
    """Compressed images with labels, a manifest and an experiment."""
    import nibabel as nib

    rows = ["id,person,image:T1w,label:hard"]
    for i in range(cases):
        rng = np.random.default_rng(i)
        # A ball of half the volume in an empty background, with noise: it compresses as a scan of a head does.
        axis = np.linspace(-1, 1, size) ** 2
        inside = axis[:, None, None] + axis[:, None] + axis < 0.97
        image = (inside * rng.normal(500, 15, inside.shape)).astype(np.int16)
        affine = np.diag([-0.9, 1.0, 1.1, 1.0])
        nib.save(nib.Nifti1Image(image, affine), folder / f"c{i}.nii.gz")
        label = np.zeros((size, size, size), np.uint8)
        label[20:40, 20:40, 20 : 40 + i] = 1  # equal labels would be one person's
        nib.save(nib.Nifti1Image(label, affine), folder / f"c{i}_seg.nii.gz")
        rows.append(f"c{i},c{i},c{i}.nii.gz,c{i}_seg.nii.gz")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "labels.yaml").write_text("structures: {a: 1}\n")
    raw = {
        "name": "prepare",
        "data": {
            "dataset": {"type": "data.manifest", "path": str(folder)},
            "labels": "hard",
            "split": {"type": "data.k_fold", "k": 3},
            "preprocessing": [
                {"type": "data.orient", "axes": "RAS"},
                {"type": "data.resample", "spacing_mm": [1, 1, 1]},
                {"type": "data.z_score"},
            ],
        },
        "model": {"type": "standard.plain_unet", "features": [2, 4]},
        "loss": {"type": "standard.dice_ce"},
        "stages": {"train": {"type": "core.train"}},
    }
    (folder / "experiment.yaml").write_text(json.dumps(raw))


def child(file: str, runs: str, go: float) -> None:
    """Prepare from moment `go` on; print wall and CPU seconds."""
    import mriad.training.worker  # noqa: F401 - starting is not what is measured
    import mriad_data.resampling  # noqa: F401
    from mriad.experiment.load import load
    from mriad.launch.files import runs_root
    from mriad_data.preparing import plan, run

    experiment, root = load(file), runs_root(runs)
    experiment.data.dataset.build()  # imports the readers of tables; files are neither read nor hashed
    time.sleep(max(0.0, go - time.time()))
    began, cpu = time.perf_counter(), time.process_time()
    done = run(plan(experiment, root), 0, root.path / "file-hashes.jsonl", False)
    spent = [time.perf_counter() - began, time.process_time() - cpu]
    print(json.dumps([*spent, done.made, len(done.failures)]))


def at_once(processes: int, file: Path, runs: Path, starting_s: float) -> tuple[float, float]:
    """Wall and CPU seconds of so many processes that prepare one set into an empty store."""
    go = time.time() + starting_s
    command = [sys.executable, __file__, "child", str(file), str(runs), str(go)]
    started = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    rows = [json.loads(p.communicate()[0].splitlines()[-1]) for p in started]
    assert all(row[3] == 0 for row in rows), rows
    return max(row[0] for row in rows), sum(row[1] for row in rows)


def preparing(cases: int, size: int, rounds: int, starting_s: float) -> dict[str, float]:
    """The least and the median of interleaved rounds; ratios of the least, which others delayed least."""
    one, two = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_set(folder, cases, size)
        for turn in range(rounds):
            pair = [(1, one), (2, two)]
            for count, rows in pair if turn % 2 == 0 else pair[::-1]:
                runs = folder / f"runs-{turn}-{count}"
                rows.append(at_once(count, folder / "experiment.yaml", runs, starting_s))
    found: dict[str, float] = {}
    for place_, name in enumerate(("wall", "cpu")):
        for count, rows in (("one", one), ("two", two)):
            found[f"{count}_{name}_s"] = min(row[place_] for row in rows)
            found[f"{count}_{name}_median_s"] = median(row[place_] for row in rows)
        found[f"{name}_ratio"] = found[f"two_{name}_s"] / found[f"one_{name}_s"]
    return found


def main(given: argparse.Namespace) -> None:
    result: dict[str, Any] = {}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    drawn = result["patches"] = patches(given.volumes, given.size, given.rounds, given.draws)
    small = result["compressed"] = compressed(
        max(given.volumes // 4, 1), given.size, given.rounds, max(given.draws // 4, 1)
    )
    if cores:
        os.sched_setaffinity(0, cores)
    rows = [
        [n, f"{r['clock']:.0f}/s", f"{r['cpu']:.0f}/s", f"{r['ratio']:.2f}" if "ratio" in r else ""]
        for n, r in drawn.items()
        if "clock" in r
    ]
    table([f"{PATCH}³ patches", "by clock", "by CPU", "ratio"], rows)
    print()
    table(
        [f"{PATCH}³ patches, store", "by CPU", "bytes"],
        [[n, f"{r['cpu']:.0f}/s", f"{r['size']:.2f}"] for n, r in small.items()],
    )
    found = result["preparing"] = preparing(given.cases, given.side, given.repeats, given.starting)
    print()
    texts = [
        [f"{found[f'{n}_{k}_s']:.2f} s (median {found[f'{n}_{k}_median_s']:.2f})" for k in ("wall", "cpu")]
        for n in ("one", "two")
    ]
    table(
        ["preparing, the least of the rounds", "wall", "CPU"],
        [
            ["one process", *texts[0]],
            ["two at once", *texts[1]],
            ["ratio", f"{found['wall_ratio']:.2f}", f"{found['cpu_ratio']:.2f}"],
        ],
    )
    fast = all(drawn[n]["ratio"] >= NEEDED for n in ("store", "sampler", "store, opened"))
    result["met"] = fast and found["wall_ratio"] <= MOST and found["cpu_ratio"] <= MOST
    conclude(result, given.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], float(sys.argv[4]))
        sys.exit()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--size", type=int, default=192, help="voxels a side of the volumes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--draws", type=int, default=100, help="patches a round and variant")
    parser.add_argument("--cases", type=int, default=12, help="files to prepare")
    parser.add_argument("--side", type=int, default=192, help="voxels a side of the files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--starting", type=float, default=15, help="seconds in which a process has started")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    main(parser.parse_args())
