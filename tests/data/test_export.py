"""Export as nnU-Net raw and as BIDS derivatives, read back with nibabel, with the readers, and with the manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
from mriad.cli import main
from mriad.errors import DataError, StorageError
from mriad.experiment.model import Experiment
from mriad.geometry import Grid
from mriad.images import FileSource, write_like
from mriad.interfaces import Dataset, Split
from mriad.registry import copy_of, registry, using
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet
from mriad_data.export import export_bids, export_nnunet, plan_export

_C, _S = np.cos(0.3), np.sin(0.3)
GRID = Grid.of(
    (5, 6, 7), [[-0.8 * _C, 0, 2 * _S, 9], [0, 0.9, 0, -4], [0.8 * _S, 0, 2 * _C, 3], [0, 0, 0, 1]]
)
LABELS = LabelSet.of({"csf": 30, "cord": 7})


class Toy(Dataset):
    """Files of eight persons; person 5 has a sparse label, 6 a soft one, 7 none."""

    type: Literal["export.toy"] = "export.toy"
    root: str
    channels: int = 1
    odd: str = ""

    def build(self) -> CaseIndex:
        from pathlib import Path

        root, cases = Path(self.root), []

        def put(name, data, form="float32"):
            path = root / f"{name}.nii.gz"
            if not path.exists():
                write_like(path, data, GRID, form)
            return FileSource(str(path), stacked=data.ndim == 4)

        for i in range(8):
            draw = np.random.default_rng(i)
            channels = {f"ch{c}": put(f"i{i}{c}", draw.normal(size=GRID.shape)) for c in range(self.channels)}
            values = draw.choice([0, 7, 30], size=GRID.shape)
            mask = put(f"v{i}", (np.arange(7) % 2 == 0) * np.ones(GRID.shape), "labels")
            soft = draw.dirichlet((1, 1, 1), size=GRID.shape).transpose(3, 0, 1, 2)[:2]
            labels = {
                5: {"hard": Label("sparse", put(f"l{i}", values, "labels"), mask)},
                6: {"hard": Label("soft", put(f"s{i}", soft))},
                7: {},
            }.get(i, {"hard": Label("hard", put(f"l{i}", values, "labels"))})
            contrast = "FLAIR" if i % 2 else "T1w"
            levels = {"levels": put(f"a{i}", values % 5, "labels")}
            person = f"p {i}" if self.odd else f"p{i}"
            cases.append(
                Case(f"case-{i}{self.odd}", person, channels, labels, contrast, "site", annotations=levels)
            )
        return CaseIndex(cases, LABELS)


@pytest.fixture
def make(tmp_path):
    everything = copy_of(registry())
    everything.add(Toy, "export", "tests")
    (tmp_path / "in").mkdir()
    path = tmp_path / "split.json"

    def made(split=None, labels="hard", **fields):
        fold = {"train": ["p0", "p1", "p5", "p6", "p7"], "validation": ["p2"], "test": ["p3", "p4"]}
        other = {**fold, "train": ["p0", "p2", "p5", "p6", "p7"], "validation": ["p1"]}
        path.write_text(json.dumps([fold, other]))
        data = {
            "dataset": {"type": "export.toy", "root": str(tmp_path / "in"), **fields},
            "labels": labels,
            "split": split or {"type": "data.file", "path": str(path)},
        }
        return Experiment.model_validate(
            {
                "name": "toy",
                "data": data,
                "model": {"type": "standard.plain_unet", "features": [4, 8]},
                "loss": {"type": "standard.dice_ce"},
            }
        )

    with using(everything):
        yield made


def voxels(path):
    image = nib.load(path)
    np.testing.assert_allclose(image.affine, GRID.matrix, atol=1e-6)
    return np.asanyarray(image.dataobj)


class TestNnunet:
    def test_files_labels_and_splits(self, make, tmp_path):
        experiment = make(channels=2)
        out = tmp_path / "Dataset501_Toy"
        made = export_nnunet(plan_export(experiment), out)
        assert made.cases == 7
        assert made.left_out == {"case-7": "no label 'hard'"}
        facts = json.loads((out / "dataset.json").read_text())
        assert facts["labels"] == {"background": 0, "csf": 1, "cord": 2, "ignore": 3}
        assert facts["channel_names"] == {"0": "ch0", "1": "ch1"}
        assert facts["numTraining"] == 5
        assert sorted(p.name for p in (out / "imagesTs").iterdir()) == [
            f"case-{i}_{c:04d}.nii.gz" for i in (3, 4) for c in (0, 1)
        ]
        assert sorted(p.name for p in (out / "labelsTr").iterdir()) == [
            f"case-{i}.nii.gz" for i in (0, 1, 2, 5, 6)
        ]
        old = np.asanyarray(nib.load(tmp_path / "in" / "l0.nii.gz").dataobj)
        np.testing.assert_array_equal(
            voxels(out / "labelsTr" / "case-0.nii.gz"), np.select([old == 30, old == 7], [1, 2])
        )
        np.testing.assert_array_equal(
            voxels(out / "imagesTr" / "case-0_0001.nii.gz"),
            np.asanyarray(nib.load(tmp_path / "in" / "i01.nii.gz").dataobj),
        )
        sparse = voxels(out / "labelsTr" / "case-5.nii.gz")
        assert (sparse[..., 1::2] == 3).all()
        assert (sparse[..., ::2] < 3).all()
        soft = nib.load(tmp_path / "in" / "s6.nii.gz").get_fdata()
        whole = np.concatenate([1 - soft.sum(-1, keepdims=True), soft], -1)
        np.testing.assert_array_equal(voxels(out / "labelsTr" / "case-6.nii.gz"), whole.argmax(-1))
        assert json.loads((out / "splits_final.json").read_text()) == [
            {"train": ["case-0", "case-1", "case-5", "case-6"], "val": ["case-2"]},
            {"train": ["case-0", "case-2", "case-5", "case-6"], "val": ["case-1"]},
        ]

    def test_read_back_by_the_reader_and_by_the_manifest(self, make, tmp_path):
        experiment = make()
        out = tmp_path / "Dataset501_Toy"
        plan = plan_export(experiment)
        export_nnunet(plan, out)
        found = Dataset.resolve({"type": "data.nnunet", "root": str(out), "part": "all"}).build()
        assert found.column("id") == [f"case-{i}" for i in (0, 1, 2, 5, 6, 3, 4)]
        assert found.label_set == LabelSet.of({"csf": 1, "cord": 2}, [3])
        split = Split.resolve({"type": "data.file", "path": str(out / "splits_final.json"), "others": "test"})
        sides = split.build(found, 1, 0)
        assert sides["validation"] == ("case-1",)
        assert sides["test"] == ("case-3", "case-4")
        back = Dataset.resolve({"type": "data.manifest", "path": str(out)}).build()
        assert back.column("person") == [f"p{i}" for i in range(7)]
        assert back.column("contrast") == ["T1w", "FLAIR"] * 3 + ["T1w"]
        ours = Split.resolve({"type": "data.file", "path": str(out / "splits.json")})
        for fold in (0, 1):
            whole = plan.folds[fold]
            assert {s: set(ids) for s, ids in ours.build(back, fold, 0).items()} == {
                s: set(ids) - {"case-7"} for s, ids in whole.items()
            }

    def test_folds_that_test_different_cases_need_one_to_be_chosen(self, make, tmp_path):
        experiment = make({"type": "data.k_fold", "k": 4})
        with pytest.raises(
            DataError, match="the folds test different cases, and nnU-Net plans on every case"
        ) as found:
            export_nnunet(plan_export(experiment), tmp_path / "Dataset501_Toy")
        assert "--fold 0" in str(found.value)
        made = export_nnunet(plan_export(experiment, 2), tmp_path / "Dataset502_Toy")
        assert len(json.loads((made.folder / "splits_final.json").read_text())) == 1

    def test_names(self, make, tmp_path):
        with pytest.raises(DataError, match="nnU-Net finds a data set by its folder's name") as found:
            export_nnunet(plan_export(make()), tmp_path / "cord")
        assert "Dataset501_Cord" in str(found.value)
        plan = plan_export(make())
        twins = [replace(plan.index[0], id="a b"), replace(plan.index[1], id="a?b")]
        folds = {0: {"train": ("a b",), "validation": ("a?b",), "test": ()}}
        with pytest.raises(DataError, match="two cases would have one name") as found:
            export_nnunet(
                replace(plan, index=CaseIndex(twins, LABELS), folds=folds), tmp_path / "Dataset503_x"
            )
        assert "a b, a?b" in str(found.value)
        assert not (tmp_path / "Dataset503_x").exists()

    def test_nothing_is_overwritten_or_left_behind(self, make, tmp_path):
        out = tmp_path / "Dataset501_Toy"
        out.mkdir()
        (out / "mine").touch()
        with pytest.raises(StorageError, match="holds something already"):
            export_nnunet(plan_export(make()), out)
        plan = plan_export(make())
        broken = [replace(c, channels={}) if c.id == "case-2" else c for c in plan.index]
        with pytest.raises(DataError, match="a case lacks a channel") as found:
            export_nnunet(replace(plan, index=CaseIndex(broken, LABELS)), tmp_path / "Dataset502_Toy")
        assert "case-2" in str(found.value)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["Dataset501_Toy", "in", "split.json"]


class TestBids:
    def test_read_back_by_the_reader(self, make, tmp_path):
        out = tmp_path / "bids"
        export_bids(plan_export(make()), out)
        config = {
            "type": "data.bids",
            "root": str(out),
            "contrasts": ["T1w", "FLAIR"],
            "missing_image": "leave_out",
            "missing_label": "keep",
            "labels": {"hard": "label-hard_dseg", "soft": "label-hard_probseg"},
            "annotations": {"levels": "label-levels_dseg"},
            "structures": {"csf": 30, "cord": 7},
        }
        found = Dataset.resolve(config).build()
        assert sorted(found.column("person")) == [f"sub-p{i}" for i in range(8)]
        split = Split.resolve({"type": "data.file", "path": str(out / "splits.json")})
        sides = split.build(found, 1, 0)
        assert {found[found.column("id").index(i)].person for i in sides["test"]} == {"sub-p3", "sub-p4"}
        case = next(c for c in found if c.person == "sub-p0")
        np.testing.assert_array_equal(
            case.labels["hard"].source.read().data,
            np.asanyarray(nib.load(tmp_path / "in" / "l0.nii.gz").dataobj),
        )
        assert "levels" in case.annotations
        soft = next(c for c in found if c.person == "sub-p6").labels["soft"]
        np.testing.assert_allclose(
            soft.source.read().data,
            np.moveaxis(nib.load(tmp_path / "in" / "s6.nii.gz").get_fdata(), 3, 0),
            atol=1e-6,
        )

    def test_the_manifest_keeps_kinds_masks_and_everything_else(self, make, tmp_path):
        plan = plan_export(make(channels=2))
        export_bids(plan, tmp_path / "bids")
        back = Dataset.resolve({"type": "data.manifest", "path": str(tmp_path / "bids")}).build()
        assert [c.labels["hard"].kind if c.labels else "" for c in back] == ["hard"] * 5 + [
            "sparse",
            "soft",
            "",
        ]
        assert back.label_set == LABELS
        for old, new in zip(plan.index, back, strict=True):
            assert new.person == f"sub-{old.person}"
            for name, source in old.channels.items():
                np.testing.assert_array_equal(new.channels[name].read().data, source.read().data)
                assert new.channels[name].read().grid.same(GRID)
            for name, label in old.labels.items():
                np.testing.assert_allclose(
                    new.labels[name].source.read().data, label.source.read().data, atol=1e-6
                )
                assert (new.labels[name].validity is None) == (label.validity is None)
        names = sorted(p.name for p in (tmp_path / "bids/derivatives/mriad/sub-p5/anat").iterdir())
        assert names == [
            "sub-p5_label-hard_desc-valid_mask.nii.gz",
            "sub-p5_label-hard_dseg.nii.gz",
            "sub-p5_label-levels_dseg.nii.gz",
        ]
        facts = json.loads((tmp_path / "bids/derivatives/mriad/dataset_description.json").read_text())
        assert facts["DatasetType"] == "derivative"
        columns = (tmp_path / "bids/participants.tsv").read_text().splitlines()[0].split("\t")
        described = json.loads((tmp_path / "bids/participants.json").read_text())
        assert set(columns) == {"participant_id", *described}
        assert "Written by `mriad data export`" in (tmp_path / "bids/README").read_text()
        table = (tmp_path / "bids/derivatives/mriad/label-hard_dseg.tsv").read_text()
        assert table == "index\tname\n0\tbackground\n30\tcsf\n7\tcord\n"

    def test_names_of_persons(self, make, tmp_path):
        plan = plan_export(make())
        twins = [replace(plan.index[0], person="a-1"), replace(plan.index[1], person="a_1")]
        folds = {0: {"train": ("case-0",), "validation": ("case-1",), "test": ()}}
        with pytest.raises(DataError, match="BIDS names hold letters and digits only") as found:
            export_bids(replace(plan, index=CaseIndex(twins, LABELS), folds=folds), tmp_path / "bids")
        assert "'a-1', 'a_1'" in str(found.value)

    def test_runs_of_one_contrast(self, make, tmp_path):
        plan = plan_export(make())
        twice = [replace(plan.index[0], id=f"x{i}") for i in range(2)]
        folds = {0: {"train": ("x0", "x1"), "validation": (), "test": ()}}
        export_bids(replace(plan, index=CaseIndex(twice, LABELS), folds=folds), tmp_path / "bids")
        images = sorted(p.name for p in (tmp_path / "bids/sub-p0/anat").iterdir())
        assert images == ["sub-p0_T1w.nii.gz", "sub-p0_run-2_T1w.nii.gz"]


def test_what_depends_on_a_stage_or_on_the_fold_is_refused(make):
    with pytest.raises(DataError, match="the labels of this experiment are made by a stage"):
        plan_export(make(labels={"kind": "hard", "from": "softgt"}))
    budget = make()
    data = budget.data.model_copy(
        update={"sparse": type(budget.data).model_fields["sparse"].annotation.__args__[0](persons=2)}
    )
    with pytest.raises(DataError, match="which labels a budget keeps depends on the fold"):
        plan_export(budget.model_copy(update={"data": data}))


def test_the_command_on_the_real_pack(real_data, tmp_path, capsys):
    spine = tmp_path / "spine.yaml"
    spine.write_text(
        "name: spine\ndata:\n  dataset: {type: data.manifest, packaged: 'mriad_data:manifests/spine', root: '"
        + str(real_data / "spine")
        + "'}\n  split: {type: data.leave_one_out}\nmodel: {type: standard.plain_unet, features: [4, 8]}\n"
        "loss: {type: standard.dice_ce}\n"
    )
    out = tmp_path / "Dataset501_Cord"
    with pytest.raises(SystemExit) as done:
        main(["data", "export", str(spine), "--as", "nnunet", "--fold", "0", "--out", str(out)])
    assert not done.value.code
    assert "8 cases in" in capsys.readouterr().out
    found = Dataset.resolve(
        {"type": "data.nnunet", "root": str(out), "part": "all", "person": "(sub-[^_]+)"}
    ).build()
    old = Dataset.resolve(
        {"type": "data.manifest", "packaged": "mriad_data:manifests/spine", "root": str(real_data / "spine")}
    ).build()
    by_id = {case.id: case for case in old}
    assert set(found.column("person")) == set(old.column("person"))
    for case in found:
        before, after = by_id[case.id].channels["mri"].read(), case.channels["mri"].read()
        assert after.grid.same(before.grid)
        np.testing.assert_array_equal(after.data, before.data.astype(np.float32))
