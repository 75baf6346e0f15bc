"""Rigid registration of T1w to FLAIR of one person, beside itk-elastix and ANTs, in one interleaved run.

The peers are no dependencies: install each with `pip install --target FOLDER` and name the folders.

    python tests/benchmarks/bench_registration.py --elastix FOLDER --ants FOLDER --starts 6

Each library runs in a process of its own that is ready before the clock starts; a round is one start for each.
Known starts are set through the moving image's affine, so that nothing is interpolated beforehand. Errors are mean
distances over the brain; the source's own alignment counts as the truth, though it is not exact.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

HERE = Path(__file__).resolve().parent
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def load(data: Path, person: str, contrast: str):
    import nibabel as nib

    image = nib.load(data / "ms-lesions" / "cross-sectional" / person / f"{person}_{contrast}.nii.gz")
    return np.asarray(image.dataobj).astype(np.float32), image.affine


def motion(seed: int, degrees: float, mm: float, centre: np.ndarray) -> np.ndarray:
    draw = np.random.default_rng(seed)
    x, y, z = (axis := draw.normal(size=3)) / np.linalg.norm(axis)
    skew, angle = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.radians(degrees)
    turn = np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew
    way = draw.normal(size=3)
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre - turn @ centre + mm * way / np.linalg.norm(way)
    return matrix


def ours(fixed, moving) -> np.ndarray:
    from mriad.geometry import Grid
    from mriad.vocabulary import Volume
    from mriad_data.registration import register

    volumes = [Volume(data, Grid.of(data.shape, affine)) for data, affine in (moving, fixed)]
    return register(*volumes).transform.array


def elastix(fixed, moving) -> np.ndarray:
    import itk

    def image(data, affine):
        made, matrix = itk.image_from_array(np.ascontiguousarray(data.transpose(2, 1, 0))), LPS @ affine
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        made.SetSpacing(spacing.tolist())
        made.SetOrigin(matrix[:3, 3].tolist())
        made.SetDirection(itk.matrix_from_array(np.ascontiguousarray(matrix[:3, :3] / spacing)))
        return made

    settings = itk.ParameterObject.New()
    settings.AddParameterMap(settings.GetDefaultParameterMap("rigid"))
    _, found = itk.elastix_registration_method(image(*fixed), image(*moving), parameter_object=settings)
    values = found.GetParameterMap(0)
    angles = [float(v) for v in values["TransformParameters"]]
    centre = np.array([float(v) for v in values["CenterOfRotationPoint"]])
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles[:3]), np.sin(angles[:3])
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = z @ x @ y  # ITK's Euler angles, unless ComputeZYX
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + angles[3:]
    return LPS @ matrix @ LPS


def ants(fixed, moving) -> np.ndarray:
    import ants as library

    def image(data, affine):
        matrix = LPS @ affine
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        place = {"origin": matrix[:3, 3].tolist(), "spacing": spacing.tolist()}
        return library.from_numpy(data, direction=matrix[:3, :3] / spacing, **place)

    found = library.registration(image(*fixed), image(*moving), type_of_transform="Rigid")
    transform = library.read_transform(found["fwdtransforms"][0])
    points = np.vstack([np.zeros(3), np.eye(3)])
    moved = np.array([transform.apply_to_point(p.tolist()) for p in points])
    matrix = np.eye(4)
    matrix[:3, 3], matrix[:3, :3] = moved[0], (moved[1:] - moved[0]).T
    return LPS @ matrix @ LPS


LIBRARIES = {"mriad": ours, "itk-elastix": elastix, "ants": ants}


def serve(name: str, data: Path, person: str) -> None:
    """Read starts from standard input, print seconds, mean and largest error."""
    fixed, moving = load(data, person, "FLAIR"), load(data, person, "T1w")
    brain = np.argwhere(fixed[0] > 0)[::97] @ fixed[1][:3, :3].T + fixed[1][:3, 3]
    with_one = np.c_[brain, np.ones(len(brain))]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to standard output
    LIBRARIES[name](fixed, moving)  # imports and first-call costs
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        seed, degrees, mm = map(float, line.split())
        truth = motion(int(seed), degrees, mm, brain.mean(0))
        start = time.perf_counter()
        found = LIBRARIES[name](fixed, (moving[0], truth @ moving[1]))
        seconds = time.perf_counter() - start
        error = np.linalg.norm((with_one @ (found - truth).T)[:, :3], axis=1)
        print(seconds, error.mean(), error.max(), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--elastix", type=Path)
    parser.add_argument("--ants", type=Path)
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--person", default="sub-07")
    parser.add_argument("--data", type=Path, default=os.environ.get("MRIAD_TEST_DATA"))
    parser.add_argument("--serve")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of real MRI: --data, or MRIAD_TEST_DATA")
    if options.serve:
        serve(options.serve, options.data, options.person)
        return
    places = {"mriad": None, "itk-elastix": options.elastix, "ants": options.ants}
    workers = {}
    for name, place in places.items():
        if name == "mriad" or place is not None:
            paths = [str(place)] if place else []
            paths += [p for p in [os.environ.get("PYTHONPATH")] if p]
            words = [
                sys.executable,
                __file__,
                "--serve",
                name,
                "--data",
                options.data,
                "--person",
                options.person,
            ]
            workers[name] = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )  # fmt: skip
    for name, worker in workers.items():
        if worker.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name} could not be started: is its folder right?")
    rows = {name: [] for name in workers}
    starts = [(0, 0, 0), *[(seed, 20, 20) for seed in range(1, options.starts)]]
    for start in starts:
        for name, worker in workers.items():
            print(*start, file=worker.stdin, flush=True)
            rows[name].append([float(v) for v in worker.stdout.readline().split()])
    print(f"{options.person}, T1w to FLAIR, {len(starts)} starts: the files' own, then 20 degrees and 20 mm")
    for name, values in rows.items():
        seconds = median(v[0] for v in values)
        own, rest = values[0], values[1:]
        mean, worst = np.mean([v[1] for v in rest]), max(v[2] for v in rest)
        moved = f"aligned pair moved by {own[1]:.2f} mm"
        print(f"{name:<12} {seconds:6.2f} s   {moved}; from starts {mean:.2f} mm, worst voxel {worst:.2f}")
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    peers = [name for name in rows if name != "mriad"]
    for name in peers:
        ratio = median(a[0] / b[0] for a, b in zip(rows["mriad"], rows[name], strict=True))
        print(f"mriad takes {ratio:.2f} of the time of {name} (median of pairs)")


if __name__ == "__main__":
    main()
