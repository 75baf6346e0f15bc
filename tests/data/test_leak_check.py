"""One person under several names is found and kept together; leaks between sides, stages and streams are refused."""

from __future__ import annotations

import gzip
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad import file_content
from mriad.cli import main
from mriad.errors import DataError, SplitError
from mriad.experiment.model import Experiment
from mriad.file_content import content_hint, content_mark
from mriad.filehash import file_sha256
from mriad.flow import cases_of_stream, check_split, follow_persons, gather_cases
from mriad.geometry import Grid
from mriad.images import FileSource, write_like
from mriad.interfaces import Dataset
from mriad.registry import copy_of, registry, using
from mriad.same_person import unite_persons
from mriad.stages.fingerprints import fingerprints, identify
from mriad.stages.graph import expand
from mriad.stages.pseudo_label import choose
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume
from mriad_data.sources import FrameSource
from mriad_data.splits import FileSplit, KFold

GRID = Grid.of((5, 5, 5), np.eye(4))
LABELS = LabelSet.of({"a": 1})


@dataclass(frozen=True)
class Voxels:
    """Voxels that are all `value`."""

    value: int

    @property
    def fingerprint(self) -> str:
        return f"voxels {self.value}"

    @property
    def location(self) -> str:
        return f"scan {self.value}"

    def read(self) -> Volume:
        return Volume(np.full(GRID.shape, self.value, np.int16), GRID)


def scan(name: str, image: int | None, label: int | None = None, **fields) -> Case:
    channels = {} if image is None else {"mri": Voxels(image)}
    labels = {} if label is None else {"hard": Label("hard", Voxels(label))}
    return Case(f"c-{name}-{fields.get('contrast', '')}{image}", name, channels, labels, **fields)


def index_of(*cases: Case) -> CaseIndex:
    return CaseIndex(cases, LABELS)


class TestOnePersonUnderSeveralNames:
    def test_equal_images_and_equal_label_maps_unite(self):
        index = index_of(
            scan("ann", 10, 101),
            scan("anne", 10),
            scan("map-bob", None, 102),
            scan("bob", 11, 102),
            scan("eve", 12, 103),
        )
        united = unite_persons(index)
        assert united.column("person") == ["ann", "ann", "map-bob", "map-bob", "eve"]
        assert united.aliases == {"anne": "ann", "bob": "map-bob"}

    def test_it_goes_over_several_scans(self):
        index = index_of(
            scan("a", 1), scan("b", 2), replace(scan("c", 2), channels={"x": Voxels(1), "y": Voxels(2)})
        )
        assert set(unite_persons(index).column("person")) == {"a"}

    def test_all_empty_label_maps_are_alike_and_tell_nothing(self):
        index = index_of(*(scan(f"p{i}", 10 + i, 0) for i in range(4)))
        assert unite_persons(index) is index

    def test_small_label_maps_coincide_and_tell_nothing(self):
        small = Grid.of((3, 3, 3), np.eye(4))

        @dataclass(frozen=True)
        class Small(Voxels):
            def read(self) -> Volume:
                return Volume(np.ones(small.shape, np.uint8), small)

        cases = [replace(scan(f"p{i}", 10 + i), labels={"hard": Label("hard", Small(5))}) for i in range(3)]
        assert unite_persons(index_of(*cases)).column("person") == ["p0", "p1", "p2"]

    def test_what_the_experiment_tells(self):
        index = index_of(scan("map-07", None, 5), scan("07", 6), scan("19", 7))
        united = unite_persons(index, [["07", "map-07", "lesions-07"]])
        assert united.column("person") == ["07", "07", "19"]
        assert united.aliases["lesions-07"] == "07"
        assert united.select(lambda case: True).aliases == united.aliases

    def test_a_split_keeps_them_together_and_a_file_may_use_either_name(self, tmp_path):
        index = unite_persons(index_of(*(scan(f"p{i}", 10 + i % 4) for i in range(8))))
        for fold in range(4):
            check_split(index, KFold(k=4, validation=1).build(index, fold, 0))
        path = tmp_path / "s.json"
        path.write_text('{"train": ["p4", "p1"], "val": ["p6"], "test": ["p7"]}')
        sides = FileSplit(path=path).build(index, 0, 0)
        assert len(sides["train"]) == 4
        path.write_text('{"train": ["c-p0-10", "p1"], "val": ["p6"], "test": ["p7", "c-p4-10"]}')
        with pytest.raises(SplitError, match="1 person is on two sides") as found:
            FileSplit(path=path).build(index, 0, 0)
        assert "p0 (also called p4)" in str(found.value)

    def test_the_real_pack(self, real_data):
        """unf01 is a label map too, resampled: told; its mask lies under every contrast: found."""
        spine = real_data / "spine"
        mask = FileSource(str(spine / "sub-unf01/sub-unf01_T1w_label-cord_seg.nii.gz"))
        maps = sorted((spine / "labelmaps").glob("*unf01*.nii.gz"))
        assert maps
        cases = [
            Case(
                "a",
                "unf01",
                {"mri": FileSource(str(spine / "sub-unf01/sub-unf01_T1w.nii.gz"))},
                {"hard": Label("hard", mask)},
            ),
            Case("b", "copy", {"mri": FileSource(str(spine / "sub-unf01/sub-unf01_T1w.nii.gz"))}),
            Case("c", "map-unf01", {}, {"hard": Label("hard", FileSource(str(maps[0])))}),
        ]
        index = CaseIndex(cases, LABELS)
        assert unite_persons(index).column("person") == ["unf01", "unf01", "map-unf01"]
        assert set(unite_persons(index, [["unf01", "map-unf01"]]).column("person")) == {"unf01"}

    @pytest.mark.parametrize("person", ["07", "19"])
    def test_the_real_lesion_patients(self, real_data, person):
        """07 and 19 have images, masks in a library and (07) a label map in another space: other voxels, so told."""
        folder = real_data / "ms-lesions"
        images = folder / "cross-sectional" / f"sub-{person}"
        mask = Label("hard", FileSource(str(next(images.glob("*label-lesion_seg.nii.gz")))))
        cases = [
            Case(
                f"{c}-{person}",
                who,
                {"mri": FileSource(str(next(images.glob(f"*_{c}.nii.gz"))))},
                {"hard": mask},
            )
            for c, who in (("FLAIR", person), ("T2w", f"again-{person}"))
        ]
        library = FrameSource(str(folder / "lesion-library" / "lesions_space-MNI_4d.nii.gz"), 6)
        cases.append(Case("library", f"library-{person}", {}, {"hard": Label("hard", library)}))
        index = CaseIndex(cases, LABELS)
        # two names of images share the consensus mask: found; the library has another grid
        assert unite_persons(index).column("person") == [person, person, f"library-{person}"]
        assert set(unite_persons(index, [[person, f"library-{person}"]]).column("person")) == {person}


def test_a_label_map_on_two_sides_is_refused_unless_it_is_empty():
    index = index_of(scan("a", 1, 50), scan("b", 2, 50), scan("c", 3, 60))
    with pytest.raises(SplitError, match="the same voxels under two names are in two splits") as found:
        check_split(index, {"train": ("c-a-1",), "validation": ("c-c-3",), "test": ("c-b-2",)})
    assert "scan 50" in str(found.value)
    index = index_of(scan("a", 1, 0), scan("b", 2, 0), scan("c", 3, 60))
    check_split(index, {"train": ("c-a-1",), "validation": ("c-c-3",), "test": ("c-b-2",)})


def test_a_copy_that_was_compressed_anew_is_found(tmp_path):
    write_like(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=GRID.shape), GRID)
    content = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content, 9))
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(content[:-4] + b"1234", 9))
    # another content whose end looks the same: the end is a hint, the content decides
    forged = (tmp_path / "c.nii.gz").read_bytes()[:-8] + (tmp_path / "a.nii.gz").read_bytes()[-8:]
    (tmp_path / "d.nii.gz").write_bytes(forged)
    cases = [Case(n, n, {"mri": FileSource(str(tmp_path / f"{n}.nii.gz"))}) for n in "abcd"]
    assert unite_persons(index_of(*cases)).column("person") == ["a", "a", "c", "d"]
    with pytest.raises(SplitError, match="the same voxels under two names are in two splits"):
        check_split(index_of(*cases), {"train": ("a",), "validation": ("c",), "test": ("b",)})


def test_only_files_that_may_be_alike_are_hashed(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    names = ["a", "b", "c", "d", "e.nii", "f.nii", "g.nii"]
    paths = {n: tmp_path / (n if n.endswith(".nii") else f"{n}.nii.gz") for n in names}
    for path in paths.values():
        write_like(path, rng.normal(size=GRID.shape), GRID)
    paths["d"].write_bytes(gzip.compress(gzip.decompress(paths["a"].read_bytes()), 9))
    paths["g.nii"].write_bytes(paths["e.nii"].read_bytes())
    cases = [Case(n, n, {"mri": FileSource(str(p))}) for n, p in paths.items()]
    hashed = []
    monkeypatch.setattr(file_content, "file_sha256", lambda p: (hashed.append(Path(p)), file_sha256(p))[1])
    united = unite_persons(index_of(*cases)).column("person")
    assert united == ["a", "b", "c", "a", "e.nii", "f.nii", "e.nii"]
    assert set(hashed) == {paths[n] for n in ("a", "d", "e.nii", "g.nii")}
    paths["b"].unlink()
    with pytest.raises(DataError, match="a file cannot be read") as found:
        unite_persons(index_of(*cases))
    assert str(paths["b"]) in str(found.value)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 2)), min_size=1, max_size=6))
def test_files_of_one_content_have_one_hint(tmp_path_factory, files):
    """The hint may never part what the mark joins, or a leak would pass."""
    folder = tmp_path_factory.mktemp("files")
    found = []
    for i, (content, form) in enumerate(files):
        path = folder / f"{i}.nii{'.gz' if form else ''}"
        path.write_bytes(gzip.compress(content, 1 + 8 * (form == 2), mtime=i) if form else content)
        found.append((content_mark(str(path)), content_hint(str(path))))
    for mark, hint in found:
        assert {h for m, h in found if m == mark} == {hint}


class Pack(Dataset):
    """Twelve persons in two contrasts; `also`: names with another's voxels."""

    type: Literal["leaks.pack"] = "leaks.pack"
    also: dict[str, int] = {}  # noqa: RUF012 (pydantic copies defaults)
    first: int = 0
    only: str = ""

    def build(self) -> CaseIndex:
        cases = [
            scan(f"p{i}", 10 * i + j, 200 + 10 * i + j, contrast=c, domain=c)
            for i in range(self.first, self.first + 12)
            for j, c in enumerate(("T1w", "T2w"))
            if self.only in ("", c)
        ]
        return index_of(
            *cases, *(scan(name, 10 * i, contrast="T1w", domain="T1w") for name, i in self.also.items())
        )


@pytest.fixture
def make():
    everything = copy_of(registry())
    everything.add(Pack, "leaks", "tests")

    def made(dataset=None, **sections):
        data = {
            "dataset": {"type": "leaks.pack", **(dataset or {})},
            "split": {"type": "data.k_fold", "k": 4},
        }
        return Experiment.model_validate(
            {
                "name": "leaks",
                "data": {**data, **sections.pop("data", {})},
                "model": {"type": "standard.plain_unet", "features": [4, 8]},
                "loss": {"type": "standard.dice_ce"},
                "evaluate": {"metrics": ["eval.dice"]},
                **sections,
            }
        )

    with using(everything):
        yield made


def own_cases(experiment):
    return gather_cases(experiment, experiment.data.dataset.build(), experiment.fold, experiment.seed)


class TestInAnExperiment:
    def test_a_copy_follows_its_person_in_every_fold(self, make):
        for fold in range(4):
            cases = own_cases(make({"also": {"copy": 3, "other": 7}}, fold=fold))
            side = {case.person: name for name in cases.split for case in cases.side(name)}
            assert len(side) == 12
            ids = {i: name for name, found in cases.split.items() for i in found}
            assert ids["c-copy-T1w30"] == side["p3"]
            assert ids["c-other-T1w70"] == side["p7"]

    def test_persons_who_were_found_to_be_one_are_named(self, make):
        with pytest.warns(RuntimeWarning, match="names with the same voxels count as one person: copy = p3"):
            identify(make({"also": {"copy": 3}}))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            identify(make({"also": {"copy": 3}}, data={"same_person": [["p3", "copy"]]}))

    def test_streams_draw_from_training_persons_alone(self, make):
        experiment = make(streams={"labelled": {}, "unlabelled": {}, "T2w": {"contrasts": ["T2w"]}})
        cases = own_cases(experiment)
        for name, section in experiment.streams.items():
            assert set(cases_of_stream(name, section, cases)) <= set(cases.split["train"])

    def test_derived_cases_of_an_alias_stay_on_the_side_of_the_person(self, make):
        experiment = make(data={"same_person": [["p1", "map-p1"]]})
        own = own_cases(experiment)
        assert "p1" in {case.person for case in own.side("test")}
        derived = index_of(scan("map-p1", 999, 998), *(scan(f"p{i}", 500 + i, 600 + i) for i in range(2, 12)))
        cases = follow_persons(experiment, derived, own)
        assert "c-map-p1-999" in cases.split["test"]
        assert "p1" not in {case.person for side in ("train", "validation") for case in cases.side(side)}

    def test_a_held_out_contrast_enters_neither_training_nor_derived_data(self, make):
        experiment = make(data={"split": {"type": "data.leave_domain_out", "values": ["T2w"]}})
        own = own_cases(experiment)
        assert own.held_out == {"T2w"}
        assert {c.contrast for side in ("train", "validation") for c in own.side(side)} == {"T1w"}
        tested = {c.person for c in own.side("test")}
        sources = own.target_sources()
        assert {c.contrast for c in sources if c.person not in tested} == {"T1w"}
        assert {c.contrast for c in sources if c.person in tested} == {"T1w", "T2w"}
        derived = index_of(
            *(
                scan(c.person, 900 + i, 700 + i, contrast=x)
                for i, c in enumerate(own.side("train")[:4])
                for x in [("T1w", "T2w")[i % 2]]
            )
        )
        cases = follow_persons(experiment, derived, own)
        assert {c.contrast for c in cases.side("train")} == {"T1w"}
        _, chosen = choose(experiment, "all", 0)
        assert {case.contrast for case, _ in chosen} == {"T1w"}

    def test_pseudo_labels_use_the_split_of_the_training(self, make):
        # domains are renamed so that their order turns: the persons of the fold must not change
        domains = {"z": "T1w", "a": "T2w"}
        experiment = make({"only": "", "first": 0}, data={"domains": domains})
        training = {case.person for case in own_cases(experiment).side("train")}
        _, chosen = choose(experiment, "all", 0)
        assert {case.person for case, _ in chosen} == training

    def check(self, make, own, **sections):
        stages = {
            "pretrain": {"type": "core.train", "data": own},
            "train": {"type": "core.train", "from": "pretrain"},
        }
        return fingerprints(expand(make(stages=stages, **sections)))

    def test_between_stages_by_person_alias_image_and_label_map(self, make):
        other = {"type": "leaks.pack", "first": 100}
        assert len(self.check(make, {"dataset": other})) == 3
        with pytest.raises(SplitError, match="'pretrain' learns from person 'p1', whom"):
            self.check(make, {"split": {"type": "data.k_fold", "k": 3}})
        with pytest.raises(SplitError, match=r"'pretrain' learns from the voxels of person 'p\d+'"):
            self.check(make, {"dataset": {**other, "also": {"x1": 1, "x4": 4, "x11": 11}}})
        with pytest.raises(SplitError, match=r"'pretrain' learns from person 'p1'"):
            self.check(make, {"dataset": other}, data={"same_person": [["p1", "p100"]]})

    def test_between_stages_a_held_out_contrast(self, make):
        split = {"type": "data.leave_domain_out", "values": ["T2w"]}
        own = {"dataset": {"type": "leaks.pack", "first": 100}, "split": {"type": "data.k_fold"}}
        with pytest.raises(
            SplitError, match="'pretrain' learns from 'T2w', which the split of stage 'evaluate' holds"
        ):
            self.check(make, own, data={"split": split})
        own["dataset"]["only"] = "T1w"
        assert len(self.check(make, own, data={"split": split})) == 3

    def test_a_label_map_that_tests_may_not_paint_training_images(self, make, monkeypatch):
        """Label maps without images, as a generator trains on."""
        real = Pack.build

        def build(self):
            found = real(self)
            if self.first != 300:
                return found
            return index_of(*(scan(f"map{i}", None, 200 + 10 * i) for i in range(12)))

        monkeypatch.setattr(Pack, "build", build)
        with pytest.raises(SplitError, match=r"'pretrain' learns from the voxels of person 'p\d+'"):
            self.check(
                make,
                {
                    "dataset": {"type": "leaks.pack", "first": 300},
                    "split": {"type": "data.k_fold", "seed": 5},
                },
            )


class TestTheCommand:
    YAML = """
name: spine
data:
  dataset: {type: data.manifest, path: %s}
  labels: none
  split: {type: data.leave_one_out}
model: {type: standard.plain_unet, features: [4, 8]}
loss: {type: standard.dice_ce}
"""

    @pytest.fixture
    def experiment(self, tmp_path):
        rng = np.random.default_rng(0)
        rows = ["id,person,contrast,domain,image:mri"]
        for i in range(4):
            write_like(tmp_path / f"i{i}.nii.gz", rng.normal(size=(3, 4, 5)), Grid.of((3, 4, 5), np.eye(4)))
            rows.append(f"c{i},p{i},T1w,{'AB'[i % 2]},i{i}.nii.gz")
        rows.append("c9,copy,T1w,A,i1.nii.gz")
        (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
        (tmp_path / "e.yaml").write_text(self.YAML % tmp_path)
        return tmp_path / "e.yaml"

    def run(self, *arguments) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(SystemExit) as done:
                main(["data", "splits", *map(str, arguments)])
        return int(done.value.code or 0)

    def test_it_shows_persons_by_fold_and_who_is_one(self, experiment, capsys, tmp_path):
        assert self.run(experiment, "--json", tmp_path / "r.json") == 0
        text = capsys.readouterr().out
        assert "spine: 4 persons, 5 cases, 4 folds by data.leave_one_out" in text
        assert "p1      v  T  t  t  B, A" in text
        assert "'copy' is the same person as 'p1'" in text
        assert "no leak: 1 stages, by person, by voxels of images and label maps" in text
        made = json.loads((tmp_path / "r.json").read_text())
        assert made["aliases"] == {"copy": "p1"}
        assert made["by_fold"][1]["cases"] == {"train": 2, "validation": 1, "test": 2}
        assert self.run(experiment, "--set", "data.same_person=[[p0, p00]]") == 0
        assert "data.same_person names nobody of this data set with p00" in capsys.readouterr().out
        assert self.run(experiment, "--json", "-", "--fold", 2) == 0
        assert [f["fold"] for f in json.loads(capsys.readouterr().out)["by_fold"]] == [2]

    def test_a_leak_and_an_empty_side_end_with_an_error(self, experiment, capsys, tmp_path):
        path = tmp_path / "split.json"
        path.write_text('{"train": ["p0", "p1"], "val": ["p2"], "test": ["p3", "copy"]}')
        change = ["--set", "data.split.type=data.file", "--set", f"data.split.path={path}"]
        assert self.run(experiment, *change) == 1
        assert "1 person is on two sides of the split" in capsys.readouterr().err
        assert self.run(experiment, "--set", "data.split.type=data.k_fold", "--set", "data.split.k=9") == 1
        assert "9 folds need 9 persons, but there are 4" in capsys.readouterr().err
