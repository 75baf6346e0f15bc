"""A predictor that is measured while it predicts: rows of `volumes.csv` and `quality.csv`, and posteriors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from mriad.atomic import atomic_file
from mriad.errors import DataError
from mriad.filehash import file_sha256
from mriad.identity import fingerprint
from mriad.images import write_like
from mriad.inference.native import to_native
from mriad.inference.prediction import CasePrediction, OnWindow, PredictionStream, stream_of
from mriad.inference.predictor import NetworkPredictor, ordered
from mriad.inference.scans import sidecar
from mriad.inference.segmenter import finished
from mriad.inference.slab import Scratch
from mriad.preparation import prepare_volumes

from mriad_synthseg.measuring import MeasureTable, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mriad.geometry import Grid
    from mriad.inference.scans import Scan
    from mriad.inference.slab import Slab
    from mriad.interfaces import CasePredictor
    from mriad.vocabulary import LabelSet, Volume

VOLUMES, QUALITY = "volumes.csv", "quality.csv"


class MeasuredPredictor:
    """Wraps a predictor; the rows of a scan are written once its prediction has passed by, before its segmentation.

    A network is measured on its working grid, where one voxel is as large as another's in every scan; what has no
    working grid (atlas, ensemble, external program) on the scan's.

    Args:
        predictor: of one or several channels.
        folder: where the tables are.
        posteriors: also write `<case>_space-working_probseg.nii.gz`, (X, Y, Z, S) in steps of 1/255, with a sidecar
            that says of which model and scan.
        overwrite: begin the tables anew.
        model: fingerprint of the predictor.

    Raises:
        DataError: posteriors are asked of what has no working grid.
        StorageError: tables of another model are there.
    """

    def __init__(
        self, predictor: CasePredictor, folder: Path, posteriors: bool, overwrite: bool, model: str = ""
    ) -> None:
        self.predictor, self.folder, self.posteriors, self.model = predictor, folder, posteriors, model
        self.label_set: LabelSet = predictor.label_set
        self.channels: tuple[str, ...] = predictor.channels
        self.exclusive = bool(getattr(predictor, "exclusive", False))
        self.case, self._request = "input", ""
        if posteriors and not isinstance(predictor, NetworkPredictor):
            raise DataError(
                "posteriors on the working grid are a network's; this model has no grid but the scan's own",
                remedy="leave out --posteriors; `mriad predict --soft` writes probabilities on the scan's grid",
            )
        groups = Tally(self.label_set, 1.0, self.exclusive).groups
        self.volumes = MeasureTable(folder / VOLUMES, self.label_set.names, overwrite)
        self.quality = MeasureTable(folder / QUALITY, list(groups), overwrite)

    def begin(self, scan: Scan) -> None:
        """Say whose prediction is next."""
        self.case, self._request = _called(scan), self._request_of(scan)

    def has(self, scan: Scan) -> bool:
        """Whether the rows of a scan are there and, where they are asked for, its posteriors by this model."""
        case = _called(scan)
        if not (self.volumes.has(case) and self.quality.has(case)):
            return False
        path = self._posteriors_of(case)
        return not self.posteriors or (path.exists() and _stated(sidecar(path)) == self._request_of(scan))

    def _request_of(self, scan: Scan) -> str:
        return fingerprint({"model": self.model, "files": {n: file_sha256(p) for n, p in scan.files.items()}})

    def _posteriors_of(self, case: str) -> Path:
        return self.folder / f"{case}_space-working_probseg.nii.gz"

    def __call__(self, channels: Mapping[str, Volume]) -> CasePrediction:
        """Segment and measure one case."""
        return self.stream(channels).collect()

    def stream(self, channels: Mapping[str, Volume], on_window: OnWindow | None = None) -> PredictionStream:
        """Prepare now; predict, measure and write the rows while the slabs are taken."""
        if isinstance(self.predictor, NetworkPredictor):
            return self._network(self.predictor, channels, on_window)
        stream = stream_of(self.predictor, channels, on_window)
        tally = Tally(self.label_set, stream.grid.voxel_volume, self.exclusive)
        return replace(stream, slabs=self._recorded(tally.watch(stream.slabs), tally))

    def _network(
        self, predictor: NetworkPredictor, channels: Mapping[str, Volume], on_window: OnWindow | None
    ) -> PredictionStream:
        given = ordered(channels, predictor.channels)
        native = next(iter(given.values())).grid
        sample = prepare_volumes(given, predictor.steps, predictor.parameters)
        segmenter = predictor.segmenter
        tally = Tally(self.label_set, sample.grid.voxel_volume, self.exclusive)
        working = tally.watch(segmenter.working(sample, predictor.domain, on_window))
        if self.posteriors:
            working = self._kept(working, sample.grid)
        slabs = _drained(working, len(self.label_set), sample.grid, native)
        slabs = finished(
            slabs, segmenter.predict.low_cut, segmenter.predict.postprocess, native, self.label_set
        )
        return PredictionStream(self._recorded(slabs, tally), native, self.label_set, self.exclusive)

    def _recorded(self, slabs: Iterator[Slab], tally: Tally) -> Iterator[Slab]:
        yield from slabs
        found = tally.measured()
        self.volumes.put(self.case, found.volumes, digits=2)
        self.quality.put(self.case, found.quality, digits=4)

    def _kept(self, slabs: Iterator[Slab], grid: Grid) -> Iterator[Slab]:
        """Pass slabs on and write them together at the end."""
        whole: Scratch | None = None
        for slab in slabs:
            whole = whole or Scratch(len(self.label_set), grid.shape, slab.axis)
            whole.put(slab)
            yield slab
        assert whole is not None
        path = self._posteriors_of(self.case)
        write_like(path, whole.array(), grid, "uint8_scaled", overwrite=True)
        # After the image, so that it never vouches for an older one.
        with atomic_file(sidecar(path)) as temporary:
            said = {
                "Description": "posteriors on the working grid, probability in [0, 1], stored as 0..255 / 255",
                "Structures": list(self.label_set.names),
                "Request": self._request,
            }
            temporary.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _called(scan: Scan) -> str:
    return str(scan.folder / scan.name)


def _stated(path: Path) -> str | None:
    """The request in a sidecar; None where there is no such."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("Request") if isinstance(found, dict) else None


def _drained(slabs: Iterator[Slab], channels: int, working: Grid, native: Grid) -> Iterator[Slab]:
    """To the native grid; slabs that no native voxel needs are taken too, since they count as volume."""
    yield from to_native(slabs, channels, working, native)
    for _ in slabs:
        pass
