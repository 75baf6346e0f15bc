"""What a model does that MLflow has loaded: scan files in, label files out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.interfaces import CasePredictor


class ServedModel:
    """Segments files with one model file.

    Args:
        file: the model file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._predictors: dict[str, CasePredictor] = {}

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> list[str]:
        """Segment one scan a row; a row names the file of each channel.

        Args:
            rows: a table (pandas) with a column a channel, or a list of mappings channel → file.
            params: `out`, the folder of the results (default "predictions"); `device` (default "cpu").

        Returns:
            the label files, one a row, in the order of the rows.

        Raises:
            MriadError: the first scan that could not be read or predicted.
        """
        from mriad.inference.files import Job, predict_files
        from mriad.inference.load import identity, load_predictor
        from mriad.inference.scans import Scan
        from mriad.model_file import read_card

        given = dict(params or {})
        device, out = str(given.get("device", "cpu")), Path(str(given.get("out", "predictions")))
        if device not in self._predictors:
            self._predictors[device] = load_predictor(self.file, device)
        predictor = self._predictors[device]
        listed = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        scans = [Scan({name: Path(row[name]) for name in predictor.channels}) for row in listed]
        name = read_card(self.file).name
        outcome = predict_files(predictor, scans, Job(name, identity(self.file), "hard", out.absolute()))
        for _, error in outcome.failed:
            raise error
        made = {id(scan): paths for scan, paths in [*outcome.done, *outcome.skipped]}
        return [str(made[id(scan)][0]) for scan in scans]
