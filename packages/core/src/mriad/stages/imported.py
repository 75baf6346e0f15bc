"""Predictions that no network of ours makes: files of another program, or one of the cases' own labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mriad.errors import DataError
from mriad.gridcheck import require_same_grid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mriad.encoding import Encoded
    from mriad.geometry import Grid
    from mriad.inference.prediction import CasePrediction
    from mriad.vocabulary import Case, LabelSet, Sample

ENDINGS = (".nii.gz", ".nii")
_SHOWN = 10


@dataclass(frozen=True)
class ImportedPredictions:
    """A folder with one file a case: label values of the label set, or probabilities in [0, 1].

    Probabilities of one structure are 3D; those of several 4D, (X, Y, Z, S) in the file, in label-set order.
    """

    folder: Path
    label_set: LabelSet

    def path(self, case: Case) -> Path | None:
        """The file of a case, or None."""
        names = [self.folder / f"{case.id}{ending}" for ending in ENDINGS]
        return next((name for name in names if name.is_file()), None)

    def require(self, cases: Sequence[Case]) -> None:
        """Refuse a folder that lacks a case: a missing prediction must not improve a mean.

        Raises:
            DataError: cases without a file; all are counted, some are named.
        """
        missing = [case.id for case in cases if self.path(case) is None]
        if not missing:
            return
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{len(missing)} of {len(cases)} cases have no imported prediction",
            where={
                "folder": self.folder,
                "missing": ", ".join(missing[:_SHOWN]) + more,
                "expected": f"a file named as the case, such as {cases[0].id}.nii.gz",
            },
            remedy="add the files; an empty mask counts as a miss",
        )

    def of(self, case: Case) -> CasePrediction:
        """The prediction of a case on the grid of its file.

        Raises:
            DataError: no file, unreadable, or values that are neither labels of the label set nor in [0, 1].
        """
        import numpy as np

        from mriad.encoding import encode_label, one_hot
        from mriad.images import read_volume
        from mriad.inference.prediction import CasePrediction

        path = self.path(case)
        if path is None:
            self.require([case])
            raise AssertionError  # `require` has raised
        structures = len(self.label_set)
        volume = read_volume(path, stacked=True)
        data = np.asarray(volume.data)
        stacked = data if data.ndim == 4 else data[None]
        whole = bool(np.all(np.equal(np.mod(data, 1), 0)))
        if data.ndim == 3 and whole:
            target, _ = encode_label(data, "hard", "hard", self.label_set, None, str(path))
            maps = one_hot(target, structures)
        elif stacked.shape[0] == structures:
            maps = stacked.astype(np.float32)
        else:
            raise DataError(
                "an imported prediction has neither label values nor one map a structure",
                where={"case": case.id, "file": path, "maps": stacked.shape[0], "structures": structures},
                remedy=f"write label values, or {structures} probability maps in the order of the label set",
            )
        return CasePrediction(np.ascontiguousarray(maps, dtype=np.float32), volume.grid, self.label_set)


@dataclass(frozen=True)
class LabelPredictions:
    """A label of the cases, scored as if it were a prediction: what a network that learnt it perfectly would get."""

    name: str
    label_set: LabelSet
    whole: LabelSet | None = None
    """Of the data set, where the structures are a part of it."""

    def require(self, cases: Sequence[Case]) -> None:
        """Refuse cases without the label.

        Raises:
            DataError: some have none; all are counted, some are named.
        """
        missing = [case.id for case in cases if self.name not in case.labels]
        if missing:
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            raise DataError(
                f"{len(missing)} of {len(cases)} cases have no label '{self.name}' to score",
                where={
                    "missing": ", ".join(missing[:_SHOWN]) + more,
                    f"labels of {missing[0]}": ", ".join(next(c for c in cases if c.id == missing[0]).labels)
                    or "none",
                },
                remedy="name one of its labels, or put the stage that makes it before (data.labels.from)",
            )

    def of(self, case: Case) -> CasePrediction:
        """The label as probabilities: soft values as they are, label values as zeros and ones.

        Raises:
            DataError: it cannot be read, or its values do not fit the label set.
        """
        import numpy as np

        from mriad.inference.prediction import CasePrediction

        (maps, _), grid = self._encoded(case)
        return CasePrediction(np.ascontiguousarray(maps, dtype=np.float32), grid, self.label_set)

    def within(self, sample: Sample, case: Case) -> Sample:
        """A reference of the case that is valid only where the label, too, is annotated."""
        import numpy as np

        (_, own), grid = self._encoded(case)
        if own is None:
            return sample
        require_same_grid("label", grid, sample.grid, case.labels[self.name].source.location)
        theirs = np.ones_like(own) if sample.validity is None else np.asarray(sample.validity)
        return replace(sample, validity=((own != 0) & (theirs != 0)).astype(np.uint8))

    def _encoded(self, case: Case) -> tuple[Encoded, Grid]:
        from mriad.encoding import encode_label

        self.require([case])
        label = case.labels[self.name]
        volume = label.source.read()
        encoded = encode_label(
            volume.data,
            label.kind,
            "soft",
            self.label_set,
            None if label.validity is None else label.validity.read().data,
            label.source.location,
            annotated=label.annotated,
            whole=self.whole,
        )
        return encoded, volume.grid
