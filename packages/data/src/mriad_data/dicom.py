"""`data.dicom`: folders of DICOM series, `root/PERSON/[SESSION/…]/*.dcm`. Reads headers, never voxels."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Literal, Self

from mriad.interfaces import Dataset
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from mriad.vocabulary import CaseIndex

    from mriad_data.faults import Faults


class Dicom(Dataset):
    """Cases from folders of DICOM series; orientation, slope and intercept are those of the headers.

    The folders below `root` are the person, then (where there are three or more) the session, then the series.
    Ids are folder names: no name, date or number of a header is kept. A folder that holds several series gives
    each its SeriesNumber: `PERSON_FOLDER_series4`.

    Raises:
        DataError: the folder is missing or holds no DICOM series; or, in one message: patterns that fit nothing or
            several series, labels that are promised and absent, links to nothing, names that clash.
    """

    type: Literal["data.dicom"] = "data.dicom"
    root: Path = Field(description="The folder that holds a folder for each person.")
    contrasts: dict[str, str] = Field(
        default_factory=dict,
        description="Contrast → pattern (* and ?) of its series' name, as {T2w: '*t2_tse*'}; each is a case. "
        "Empty, without `channels`: every series, with its name as contrast.",
    )
    channels: dict[str, str] = Field(
        default_factory=dict,
        description="Channel → pattern of its series' name: one case a session; all on one grid.",
    )
    names: Literal["folder", "SeriesDescription", "ProtocolName"] = Field(
        "folder", description="Where a series' name comes from; headers may hold what identifies a person."
    )
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="Label → path of its NIfTI below root, as {hard: 'labels/{id}.nii.gz'}; {id}, {person}.",
    )
    structures: dict[str, int] = Field(
        default_factory=dict, description="Structure → value in hard label files."
    )
    missing_image: Literal["refuse", "leave_out"] = Field(
        "refuse", description="Where a session lacks a contrast or channel: an error, or it is left out."
    )
    missing_label: Literal["refuse", "leave_out", "keep"] = Field(
        "refuse",
        description="Where a label is absent: an error, the case is left out, or it has no such label.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.contrasts and self.channels:
            raise ValueError("give `contrasts` (a case a series) or `channels` (a case a session), not both")
        if self.labels and not self.structures:
            raise ValueError("`labels` need `structures`, such as {cord: 1}")
        return self

    def build(self) -> CaseIndex:
        """Return the cases, persons in order of their folders."""
        from mriad.errors import DataError
        from mriad.vocabulary import LabelSet

        from mriad_data.faults import Faults
        from mriad_data.index import Columns

        faults = Faults()
        root = self.root.absolute()
        sessions = _find_series(root, self.names, faults)
        if not sessions:
            faults.raise_any(f"DICOM folder {root}")
            raise DataError(
                "a folder holds no DICOM series",
                where={"folder": str(root), "expected": "PERSON/SERIES/*.dcm or PERSON/SESSION/SERIES/*.dcm"},
            )
        columns = Columns()
        for (person, session), series in sorted(sessions.items()):
            for row in self._cases(person, session, series, faults):
                if (done := self._labelled(row, root, faults)) is not None:
                    columns.add(done)
        faults.raise_any(f"DICOM folder {root}")
        if not len(columns):
            raise DataError("no case of a DICOM folder is left", where={"folder": str(root)})
        return columns.index(LabelSet.of(self.structures), root)

    def _cases(
        self, person: str, session: str, series: dict[str, tuple[str, str]], faults: Faults
    ) -> list[dict[str, str | float]]:
        """Rows of a session; `series` is id → (name, cell)."""
        plain: dict[str, str | float] = {"person": person, "session": session}
        if not self.contrasts and not self.channels:
            return [
                {"id": i, **plain, "contrast": name, "domain": name, "image:image": cell}
                for i, (name, cell) in series.items()
            ]
        visit = "_".join(part for part in (person, session) if part)
        rows: list[dict[str, str | float]] = []
        channels: dict[str, str] = {}
        for wanted, pattern in {**self.contrasts, **self.channels}.items():
            hits = [i for i, (name, _) in series.items() if fnmatchcase(name, pattern)]
            if len(hits) > 1:
                faults.add(visit, f"{wanted} ('{pattern}') fits several series: {', '.join(hits)}")
            elif not hits and self.missing_image == "refuse":
                seen = ", ".join(sorted(name for name, _ in series.values()))
                faults.add(visit, f"no series for {wanted} ('{pattern}'); there are {seen}")
            elif hits and self.channels:
                channels[f"image:{wanted}"] = series[hits[0]][1]
            elif hits:
                cell = series[hits[0]][1]
                name = f"{visit}_{wanted}"
                rows.append({"id": name, **plain, "contrast": wanted, "domain": wanted, "image:image": cell})
        if self.channels and len(channels) == len(self.channels):
            rows.append({"id": visit, **plain, **channels})
        return rows

    def _labelled(
        self, row: dict[str, str | float], root: Path, faults: Faults
    ) -> dict[str, str | float] | None:
        """The row with its labels; None where it is left out."""
        for name, template in self.labels.items():
            path = template.format(id=row["id"], person=row["person"])
            if (root / path).is_file():
                row[f"label:{name}"] = path
                row[f"kind:{name}"] = "hard"
            elif self.missing_label == "leave_out":
                return None
            elif self.missing_label == "refuse":
                faults.add(str(row["id"]), f"no label '{name}' ({path})")
        return row


Sessions = dict[tuple[str, str], dict[str, tuple[str, str]]]
"""(person, session) → id of a series → its name and its source as a cell."""


def _find_series(root: Path, names: str, faults: Faults) -> Sessions:
    from mriad.errors import DataError

    from mriad_data.dicom_series import (
        PROTOCOL,
        SERIES_DESCRIPTION,
        SERIES_NUMBER,
        SeriesSource,
        read_header,
        series_files,
        series_of,
        text_of,
        unread_files,
    )
    from mriad_data.sources import as_cell
    from mriad_data.tree import list_tree

    tree = list_tree(root, faults)
    found: Sessions = {}
    for folder, files in tree.folders.items():
        for file in files:
            if (path := tree.path(folder, file)) in tree.missing:
                faults.add(path, "a link to nothing")
        place = str(root / folder)
        uids = series_of(place)
        there = [file for file in files if tree.path(folder, file) not in tree.missing]
        read = [path for uid in uids for path in series_files(place, uid)]
        for file in unread_files(place, there, read):
            faults.add(tree.path(folder, file), "a damaged DICOM file: copy or export it again")
        if uids and not folder:
            faults.add(".", "DICOM files lie in the root itself: put each person's into a folder of its own")
            continue
        parts = folder.split("/")
        person, session = parts[0], "_".join(parts[1:-1])
        for uid in uids:
            try:
                header = read_header(series_files(place, uid)[0])
            except DataError as error:
                faults.add(folder, error.what)
                continue
            number = text_of(header, SERIES_NUMBER) or uid.rpartition(".")[2]
            several = f"series{number}" if len(uids) > 1 or len(parts) == 1 else ""
            name = "_".join(part for part in (parts[-1] if len(parts) > 1 else "", several) if part)
            if names != "folder":
                tag = SERIES_DESCRIPTION if names == "SeriesDescription" else PROTOCOL
                label = text_of(header, tag)
            else:
                label = name
            series = found.setdefault((person, session), {})
            i = "_".join(part for part in (person, session, name) if part)
            if i in series:
                faults.add(folder, f"two series would both be {i}")
            series[i] = (label, as_cell(SeriesSource(place, uid), str(root)))
    return found
