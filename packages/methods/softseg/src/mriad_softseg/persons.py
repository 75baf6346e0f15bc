"""From cases to targets on disk: persons in parallel, each checked, reported, and skipped when done before."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.atomic import atomic_file
from mriad.errors import DataError, LabelGeometryError, MriadError
from mriad.flow import gather_cases
from mriad.images import FileSource, read_grid, write_like
from mriad.parallel import map_cases
from mriad.stages.artefact import Artefact
from mriad.stages.dataset import write_dataset
from mriad.vocabulary import Case, Label

from mriad_softseg.average import build, carry_back
from mriad_softseg.discs import carried, centres
from mriad_softseg.gate import Agreement, agreement, faults
from mriad_softseg.masks import Mask
from mriad_softseg.soft_ground_truth import SHARED_HARD, SOFT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mriad.geometry import Grid
    from mriad.stages.artefact import StageContext
    from mriad.vocabulary import CaseIndex
    from numpy.typing import NDArray

    from mriad_softseg.average import Shared, Target
    from mriad_softseg.soft_ground_truth import SoftGroundTruth

SAME_GRID = 0.05
"""A mask may lie off its image by this share of the smallest voxel size (manual correction): then the image's grid
counts."""
SHOWN = 20
TABLE, REPORT = "report.csv", "report.json"


@dataclass(frozen=True)
class Person:
    """One session of one person: the cases that are averaged, and what was wrong with the list of them."""

    id: str
    session: str
    cases: tuple[Case, ...]
    faults: tuple[tuple[str, str], ...] = ()
    """(contrast, what is wrong)."""

    @property
    def called(self) -> str:
        """For messages."""
        return f"{self.id}, session {self.session}" if self.session else self.id


@dataclass(frozen=True)
class MakeTargets:
    """Makes one person's targets; travels to worker processes."""

    how: SoftGroundTruth
    folder: Path
    value: int
    """What stands for the structure in label files."""

    def __call__(self, person: Person) -> dict[str, Any]:
        """Write the files of a person and return the report; read it where it was done before."""
        record = self.folder / "persons" / f"{person.cases[0].id}.json" if person.cases else None
        if record is not None and record.exists():
            found: dict[str, Any] = json.loads(record.read_text("utf-8"))
            if not found["faults"]:  # what went wrong may be mended: a disk, an external program
                return found
        report: dict[str, Any] = {"person": person.id, "session": person.session}
        wrong = dict(person.faults)
        masks = {} if wrong else self._read(person, wrong)
        reference = next((c for c in self.how.preferred if c in masks), "")
        if not wrong:
            try:
                report |= self._average(person, masks, reference, wrong)
            except DataError as error:
                wrong[reference] = _line(error)
        report["faults"] = wrong
        if record is not None:
            with atomic_file(record) as path:
                path.write_text(json.dumps(report, indent=1), "utf-8")
        return report

    def _read(self, person: Person, wrong: dict[str, str]) -> dict[str, Mask]:
        masks = {}
        for case in person.cases:
            label = case.labels[self.how.masks]
            try:
                if label.kind == "soft":
                    raise DataError(
                        "a soft mask stands where a hard one is meant",
                        where={"label": self.how.masks, "kind": "soft"},
                        remedy="name the hard label in `masks`",
                    )
                volume = label.source.read()
                grid = _image_grid(case, volume.grid)
                masks[case.contrast] = Mask.of(volume.data, grid, self.value)
            except MriadError as error:
                wrong[case.contrast] = f"{_line(error)} ({label.source.location})"
        return masks

    def _average(
        self, person: Person, masks: dict[str, Mask], reference: str, wrong: dict[str, str]
    ) -> dict[str, Any]:
        how = self.how
        shared = build(masks, reference, how)
        targets = {name: carry_back(shared, name, how.slice_profile) for name in masks}
        found = {name: agreement(shared, name) for name in masks}
        wrong |= faults(shared, found, how.gate)
        case_of = {case.contrast: case for case in person.cases}
        self._write_shared(shared, case_of[reference])
        points = self._discs(case_of[reference])
        rows = []
        for name, case in case_of.items():
            self._write(case, targets[name], masks[name])
            row = row_of(case, masks[name], targets[name], found[name], name == reference)
            if points and name != reference and how.discs not in case.annotations:
                volume, lost = carried(points, shared, name)
                write_like(
                    self.folder / "discs" / f"{case.id}.nii.gz",
                    volume,
                    _file_grid(masks[name]),
                    "labels",
                    overwrite=True,
                )
                row |= {"discs": len(points) - len(lost), "discs_lost": lost}
            rows.append(row)
        return {"reference": reference, "common_slices": int(shared.common.sum()), "images": rows}

    def _discs(self, case: Case) -> dict[int, NDArray[np.float64]]:
        if not self.how.discs or self.how.discs not in case.annotations:
            return {}
        return centres(case.annotations[self.how.discs].read().data)

    def _write(self, case: Case, target: Target, mask: Mask) -> None:
        grid = _file_grid(mask)
        for part, data, form in (
            (SOFT, target.soft, "float32"),
            (SHARED_HARD, (target.soft > 0.5).astype(np.uint8), "labels"),
            ("validity", target.valid, "labels"),
        ):
            write_like(self.folder / part / f"{case.id}.nii.gz", data, grid, form, overwrite=True)  # type: ignore[arg-type]

    def _write_shared(self, shared: Shared, case: Case) -> None:
        mask = shared.masks[shared.reference]
        count = sum((w.coverage >= 0.5).astype(np.float32) for w in shared.warped.values())
        for name, values in (("soft", shared.soft), ("contrasts", count)):
            write_like(
                self.folder / "shared" / f"{case.id}_{name}.nii.gz",
                mask.back(shared.full(np.asarray(values))),
                _file_grid(mask),
                "float32" if name == "soft" else "labels",
                overwrite=True,
            )


def make_targets(how: SoftGroundTruth, context: StageContext) -> Artefact:
    """Make the targets of every person of an experiment; see `SoftGroundTruth`."""
    if how.program == "sct":
        from mriad_softseg.sct import require_sct

        require_sct()
    experiment = context.experiment
    cases = gather_cases(
        experiment, experiment.data.dataset.build(), context.fold, experiment.seed, made_later=True
    )
    used = {*cases.split["train"], *cases.split["validation"]}
    learning = {case.person for case in cases.index if case.id in used}
    value = _value(cases.index, how)
    persons = persons_of(cases.target_sources(), learning, cases.held_out, how)
    folder = context.folder.absolute()
    workers = experiment.resources.cpus if experiment.resources.cpus > 1 else 0
    make = MakeTargets(how, folder, value)
    reports = list(map_cases(make, persons, workers, name=lambda person: person.called))
    summary = summarised(reports)
    _write_reports(folder, reports)
    bad = [(p, r["faults"]) for p, r in zip(persons, reports, strict=True) if r["faults"]]
    if bad and (how.faulty == "refuse" or len(bad) == len(persons)):
        raise _refusal(bad, len(persons), folder)
    sound = [p for p, r in zip(persons, reports, strict=True) if not r["faults"]]
    made = {case.id: case for person in sound for case in person.cases}
    labelled = [_labelled(made[case.id], folder, how) for case in cases.index if case.id in made]
    write_dataset(folder, labelled, cases.index.label_set)
    context.reporter.message(
        f"soft targets of {summary['persons']} persons ({summary['left_out']} left out); of an image's slices the "
        f"target covers {summary['median_percent']:.0f} % in the median, {summary['least_percent']:.0f} % at least"
    )
    return Artefact("dataset", folder, context.fingerprint, summary)


def persons_of(
    cases: Iterable[Case], learning: Iterable[str], held_out: Iterable[str], how: SoftGroundTruth
) -> list[Person]:
    """Group cases by person and session, keep what is averaged, and note what is missing.

    Args:
        cases: as `Cases.target_sources` gives them.
        learning: persons who train or validate.
        held_out: contrasts that such a person need not have.
        how: contrasts, reference and the name of the masks.

    Raises:
        DataError: no case has a mask.
    """
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.person, case.session), []).append(case)
    every = [case for group in groups.values() for case in group]
    if not any(how.masks in case.labels for case in every):
        known = sorted({name for case in every for name in case.labels})
        raise DataError(
            f"no case has a label '{how.masks}' to average",
            where={"cases": len(every), "labels found": ", ".join(known) or "none"},
            remedy="name the hard masks in `masks`",
        )
    learns, away = set(learning), set(held_out)
    return [_person(key, group, key[0] in learns, away, how) for key, group in groups.items()]


def _person(
    key: tuple[str, str], group: Sequence[Case], learns: bool, held_out: set[str], how: SoftGroundTruth
) -> Person:
    wanted = set(how.contrasts)
    kept: list[Case] = []
    wrong: dict[str, str] = {}
    for case in group:
        listed = not wanted or case.contrast in wanted
        if learns and not listed:
            continue
        if how.masks in case.labels:
            if any(case.contrast == other.contrast for other in kept):
                wrong[case.contrast] = "two cases of one contrast in a session"
            kept.append(case)
        elif listed:
            wrong[case.contrast] = f"no mask: case {case.id} has no label '{how.masks}'"
    there = {case.contrast for case in kept}
    absent = sorted(wanted - there - set(wrong) - held_out) if learns else []
    wrong |= dict.fromkeys(absent, "the person has no such scan")
    if not there & set(how.preferred) and not set(how.preferred) & set(wrong):
        wrong[" or ".join(how.preferred)] = (
            f"the reference is missing or held out; there are {', '.join(sorted(there)) or 'no masks'}"
        )
    return Person(*key, tuple(kept), tuple(wrong.items()))


def row_of(case: Case, mask: Mask, target: Target, found: Agreement, reference: bool) -> dict[str, Any]:
    """What the target covers of one image, and its area beside the mask's on the slices that are valid."""
    total, drawn, covered = len(mask.annotated), int(mask.annotated.sum()), int(target.slices.sum())
    area = mask.grid.voxel_volume / mask.thickness
    soft = np.moveaxis(target.soft, mask.axis, -1)[:, :, target.slices]
    own = mask.inside[:, :, target.slices]
    percent = 100 * covered / total
    return {
        "case": case.id,
        "contrast": case.contrast,
        "reference": reference,
        "image_slices": total,
        "mask_slices": drawn,
        "target_slices": covered,
        "percent_of_image": round(percent, 2),
        "percent_of_mask": round(100 * covered / drawn, 2),
        **{name: round(value, 4) for name, value in asdict(found).items()},
        "mask_area_mm2": round(float(own.sum()) * area / covered, 3) if covered else None,
        "target_area_mm2": round(float(soft.sum(dtype=np.float64)) * area / covered, 3) if covered else None,
        "says": f"target covers {percent:.0f} % of this image's slices",
    }


def summarised(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts and coverage of all persons, without names."""
    sound = [r for r in reports if not r["faults"]]
    percent = [row["percent_of_image"] for r in sound for row in r["images"]]
    return {
        "persons": len(sound),
        "left_out": len(reports) - len(sound),
        "images": len(percent),
        "median_percent": float(np.median(percent)) if percent else 0.0,
        "least_percent": float(min(percent, default=0.0)),
    }


def _write_reports(folder: Path, reports: Sequence[Mapping[str, Any]]) -> None:
    with atomic_file(folder / REPORT) as path:
        path.write_text(json.dumps(list(reports), indent=1), "utf-8")
    rows = [
        {"person": r["person"], "session": r["session"], **row, "fault": r["faults"].get(row["contrast"], "")}
        for r in reports
        for row in r.get("images", ())
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["person"]
    with atomic_file(folder / TABLE) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _labelled(case: Case, folder: Path, how: SoftGroundTruth) -> Case:
    """The case with its new labels alone; images that are files stay where they are."""

    def file(part: str) -> FileSource:
        return FileSource(str(folder / part / f"{case.id}.nii.gz"))

    valid = file("validity")
    carried_discs = (folder / "discs" / f"{case.id}.nii.gz").exists()
    return replace(
        case,
        channels={name: s for name, s in case.channels.items() if isinstance(s, FileSource)},
        labels={
            SOFT: Label("soft", file(SOFT), valid),
            SHARED_HARD: Label("sparse", file(SHARED_HARD), valid),
        },
        annotations={how.discs: file("discs")} if carried_discs else {},
    )


def _value(index: CaseIndex, how: SoftGroundTruth) -> int:
    structures = index.label_set.structures
    if len(structures) != 1:
        raise DataError(
            "a shared soft target is made of one structure",
            where={"structures": ", ".join(index.label_set.names) or "none"},
            remedy="use a data set whose label set names only the structure that is averaged, such as cord",
        )
    return structures[0].value


def _image_grid(case: Case, grid: Grid) -> Grid:
    """The grid of the case's image file, where the mask lies on it but for rounding."""
    source = next((s for s in case.channels.values() if isinstance(s, FileSource)), None)
    if source is None:
        return grid
    image = read_grid(source.path)
    apart = image.distance(grid)
    if apart > SAME_GRID * min(image.spacing):
        raise LabelGeometryError(
            "mask and image do not share a voxel grid",
            where={"image": image.describe(), "mask": grid.describe(), "apart": f"{apart:.3g} mm"},
            remedy="resample the mask onto its image, or correct its header",
        )
    return image


def _file_grid(mask: Mask) -> Grid:
    """The grid of a mask in the axes of its file."""
    from mriad.geometry import Grid

    order = [0, 1]
    order.insert(mask.axis, 2)
    matrix = mask.grid.matrix
    matrix[:, :3] = matrix[:, order]
    return Grid.of([mask.grid.shape[i] for i in order], matrix)


def _line(error: MriadError) -> str:
    where = "; ".join(f"{key} {value}" for key, value in error.where.items())
    return (
        f"{error.what}"
        + (f" [{where}]" if where else "")
        + (f" (try: {error.remedy})" if error.remedy else "")
    )


def _refusal(bad: Sequence[tuple[Person, Mapping[str, str]]], total: int, folder: Path) -> DataError:
    lines = {f"{p.called} {contrast}": text for p, wrong in bad for contrast, text in wrong.items()}
    shown = dict(list(lines.items())[:SHOWN])
    more = {"and": f"{len(lines) - SHOWN} more, in {folder / REPORT}"} if len(lines) > SHOWN else {}
    return DataError(
        f"{len(bad)} of {total} persons have masks that make no shared target",
        where={**shown, **more},
        remedy="correct the masks, change `contrasts` or `gate`, or leave these persons out with faulty: leave_out",
    )
