"""What labels mean to the generator: tables, lists, sides, what is segmented; and what can be wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from generator_inputs import SIDED, a_batch, a_map, a_task, made, still
from mriad.batch import sample_key
from mriad.errors import DataError, ExperimentError
from mriad.geometry import Grid
from mriad.images import write_like
from mriad.preparation import load_sample
from mriad.testing import a_batch as two_structures
from mriad.testing import check_augmenter
from mriad.training.streams import collate
from mriad.vocabulary import Case, Label, LabelSet, Sample, Task
from mriad_data.label_table import read_label_table
from mriad_synthseg.generate import Generate
from pydantic import ValidationError

TABLE = """label\tname\tside\tgeneration_class\tsegmentation_label
0\tbackground\tneutral\t0\t0
16\tbrain-stem\tneutral\t1\t16
502\tskull\tneutral\t2\t0
10\tleft thalamus\tleft\t3\t10
11\tleft caudate\tleft\t4\t10
49\tright thalamus\tright\t5\t49
50\tright caudate\tright\t6\t49
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize("preset", ["paper", "code2020", "head"])
@pytest.mark.parametrize(
    "more", [{}, {"size": [20, 12, 9], "background_shapes": 3}, {"structures": ["ball", "box"]}]
)
def test_contract(preset, more):
    if more.get("structures"):  # its target is of another label set: the contract's hard batch fits any
        check_augmenter(Generate(preset=preset, **more), batch=two_structures(2, "hard"))
    else:
        check_augmenter(Generate(preset=preset, **more))
    check_augmenter(Generate(preset=preset, backend="torch", **more), batch=two_structures(2, "hard"))


def test_same_seed_same_sample_on_a_cpu():
    one, again = (made(Generate(preset="head"), a_batch(a_map(), a_map())) for _ in range(2))
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.target, again.target)
    assert not torch.equal(one.image[0], one.image[1])


def test_a_table_says_class_side_and_output(table):
    roles = Generate(table=table).roles(SIDED)
    assert roles.names == ("background", *SIDED.names)
    assert roles.partners == (0, 2, 1, 3, 5, 4, 6)
    assert roles.classes == (0, 1, 1, 2, 3, 3, 4)
    assert roles.class_names == ("background", "left_thalamus", "brain-stem", "left_caudate", "skull")
    assert roles.stripped == (False,) * 6 + (True,)
    # caudate is segmented as thalamus, skull is not
    assert roles.segmented.names == ("left_thalamus", "right_thalamus", "brain-stem")
    assert roles.outputs == (0, 1, 2, 3, 1, 2, 0)
    assert dict(roles.segmented.merged) == {11: 10, 50: 49}
    assert roles.segmented.background == (502,)
    assert Generate(table=table, share_sides=False).roles(SIDED).classes == (0, 1, 2, 3, 4, 5, 6)
    chosen = Generate(table=table, structures=["right_thalamus"]).roles(SIDED)
    assert chosen.outputs == (0, 0, 1, 0, 0, 1, 0)
    assert set(chosen.segmented.background) == {16, 10, 11, 502}


def test_the_packs_table(real_data):
    path = real_data / "brain-labels" / "labels.tsv"
    table = read_label_table(path)
    roles = Generate(table=path).roles(table.label_set)
    assert len(roles.segmented) == 32
    assert sum(roles.stripped) == 11
    named = dict(zip(roles.names, roles.classes, strict=True))
    assert named["left_hippocampus"] == named["right_hippocampus"] == named["left_amygdala"]
    by_value = {s.value: i + 1 for i, s in enumerate(table.label_set.structures)}
    for value, index in by_value.items():
        assert roles.partners[index] == by_value[table.partner(value)]


def test_real_labels_are_read_as_what_is_trained(tmp_path, table):
    """A scan's label file holds every value of the table; merged ones count for their structure."""
    index = np.array([0, 16, 502, 10, 11, 49, 50, 0], np.int16).reshape(2, 2, 2)
    grid = Grid.of((2, 2, 2), np.eye(4))
    write_like(tmp_path / "seg.nii.gz", index, grid, "labels")
    from mriad.images import FileSource

    case = Case("c", "p", {}, {"hard": Label("hard", FileSource(str(tmp_path / "seg.nii.gz")))})
    wanted = Generate(table=table).label_set(SIDED)
    sample = load_sample(case, (), "hard", "hard", wanted)
    assert sample.target.ravel().tolist() == [0, 3, 0, 1, 1, 2, 2, 0]
    stored = load_sample(case, (), "hard", "hard", SIDED).target
    assert np.array_equal(np.array(wanted.indices(SIDED))[stored], sample.target)
    assert wanted.only(["left_thalamus"]).merged == ((11, 10),)
    assert set(wanted.only(["left_thalamus"]).background) == {502, 16, 49, 50}


def test_lists_instead_of_a_table():
    labels = ["brain-stem", "skull", "left_thalamus", "left_caudate", "right_thalamus", "right_caudate"]
    config = Generate(
        labels=labels,
        classes=[7, 9, 4, 4, 4, 4],
        left=["left_thalamus", "left_caudate"],
        right=["right_thalamus", "right_caudate"],
        structures=["right_caudate", "left_caudate"],
    )
    roles = config.roles(SIDED)
    assert roles.classes == (0, 1, 1, 2, 1, 1, 3)
    assert roles.segmented.names == ("right_caudate", "left_caudate")
    assert roles.outputs == (0, 0, 0, 0, 2, 1, 0)
    assert roles.members[1] == ("left_thalamus", "right_thalamus", "left_caudate", "right_caudate")
    after = made(config, a_batch(a_map()))
    assert set(after.target.unique().tolist()) <= {0, 1, 2}


def test_targets_are_mapped():
    config = Generate(**still(), structures=["skull", "left_caudate"])
    after = made(config, a_batch(a_map()))
    expected = torch.tensor([0, 0, 0, 0, 2, 0, 1])[a_map()]
    assert torch.equal(after.target[0].long(), expected)


def test_a_background_part_is_painted_and_not_segmented(table):
    parts = LabelSet.of(
        {**{s.name: s.value for s in SIDED.structures}, "background_part_1": 503, "background_part_2": 504}
    )
    for config in (Generate(table=table), Generate(structures=["skull"])):
        roles = config.roles(parts)
        assert len(set(roles.classes[-3:])) == 3
        assert roles.outputs[-2:] == (0, 0)
        assert {503, 504} <= set(roles.segmented.background)


# what can be wrong


def refused(config: Generate, label_set: LabelSet = SIDED) -> str:
    with pytest.raises(ExperimentError) as found:
        config.build(a_task(label_set))
    return str(found.value)


def test_structures_outside_the_table(table):
    text = refused(Generate(table=table), LabelSet.of({"brain-stem": 16, "left_putamen": 12, "mystery": 99}))
    assert "lacks structures" in text
    assert "12 left_putamen, 99 mystery" in text
    text = refused(Generate(labels=["skull"]))
    assert "lacks structures" in text
    assert "left_thalamus" in text


@pytest.mark.parametrize(
    "names", [("left_a", "right_a"), ("Left-A", "Right-A"), ("a left", "a right"), ("lh_a", "rh_a")]
)
def test_sides_pair_by_any_usual_name(names):
    """As flips at prediction exchange them: otherwise half of the samples had the wrong sides."""
    roles = Generate(preset="head").roles(LabelSet.of({names[0]: 1, "b": 2, names[1]: 3}))
    assert roles.partners == (0, 3, 2, 1)


def test_sides_that_do_not_pair(tmp_path, table):
    text = refused(Generate(), LabelSet.of({"left_thalamus": 1, "right_thalamus": 2, "left_caudate": 3}))
    assert "no partner" in text
    assert "left_caudate" in text
    assert "right_thalamus" not in text
    bad = tmp_path / "bad.tsv"
    bad.write_text(TABLE.replace("50\tright caudate\tright", "50\tright caudate\tneutral"))
    text = refused(Generate(table=bad))
    assert "do not pair" in text
    assert "2 (10, 11)" in text
    assert "1 (49)" in text
    text = refused(Generate(table=table), LabelSet.of({"left_thalamus": 10}))
    assert "has no partner" in text
    assert "49" in text
    with pytest.raises(
        ValidationError, match="left has 2 structures and right has 1: b of left has no partner"
    ):
        Generate(left=["a", "b"], right=["c"])
    text = refused(Generate(left=["left_thalamus", "skull"], right=["right_thalamus", "left_thalamus"]))
    assert "on both sides" in text


def test_lists_of_different_length():
    with pytest.raises(
        ValidationError,
        match="labels has 3 entries and classes has 2: one class a label; labels goes on with c",
    ):
        Generate(labels=["a", "b", "c"], classes=[1, 2])


def test_unknown_names_and_contradictions(table):
    for field, more in (("structures", {}), ("extracerebral", {}), ("left", {"right": ["skull"]})):
        text = refused(Generate(**{field: ["thalmus"]}, **more))
        assert f"`{field}`" in text
        assert "thalmus" in text
        assert "left_thalamus" in text
    assert "twice" in refused(Generate(structures=["skull", "skull"]))
    with pytest.raises(ValidationError, match="not both"):
        Generate(table=table, labels=["a"])
    with pytest.raises(ValidationError, match="3 axes"):
        Generate(size=[8, 8])
    with pytest.raises(ValidationError, match="from low to high"):
        Generate(mean=(200, 20))
    with pytest.raises(ValidationError, match="one of `priors`"):
        Generate(priors="p", priors_file=table)
    with pytest.raises(ExperimentError, match="paints volumes"):
        Generate().build(Task(("image",), {"": SIDED}, "softmax", dimensions=2, slices="axial"))


def test_batches_that_are_no_label_maps():
    with pytest.raises(DataError, match="has none") as found:
        made(Generate(), a_batch(a_map()).__class__(torch.empty(1, 0, 4, 4, 4), (1,), ("case-7",)))
    assert "case-7" in str(found.value)
    strange = a_map().clone()
    strange[0, 3, 3, 3], strange[0, 4, 4, 4] = 9, -1
    with pytest.raises(DataError, match="outside the generation table") as found:
        made(Generate(), a_batch(strange))
    assert "-1, 9" in str(found.value)
    assert "map-0" in str(found.value)
    with pytest.raises(DataError, match="another number of channels") as found:
        made(Generate(), a_batch(a_map().float()))
    assert "called hard" in str(found.value)


def label_case(tmp_path, values: np.ndarray) -> Case:
    from mriad.images import FileSource

    path = tmp_path / "seg.nii.gz"
    write_like(path, values.astype(np.float32), Grid.of(values.shape, np.eye(4)), "float32", overwrite=True)
    return Case("c", "p", {}, {"hard": Label("hard", FileSource(str(path)))})


def test_a_float_label_map(tmp_path):
    """Whole numbers stored as floats are labels; fractions are refused and named."""
    whole = np.zeros((3, 3, 3))
    whole[1] = 16
    sample = load_sample(label_case(tmp_path, whole), (), "hard", "hard", SIDED)
    assert sample.target.max() == 3
    whole[2, 0, 0] = 13.4
    with pytest.raises(DataError, match="not whole numbers") as found:
        load_sample(label_case(tmp_path, whole), (), "hard", "hard", SIDED)
    assert "13.4" in str(found.value)
    whole[2, 0, 0] = 77
    with pytest.raises(DataError, match="outside the label set") as found:
        load_sample(label_case(tmp_path, whole), (), "hard", "hard", SIDED)
    assert "77" in str(found.value)


def test_maps_of_different_sizes():
    samples = [
        Sample(
            f"m{n}",
            np.empty((0, n, 8, 8), np.float32),
            Grid.of((n, 8, 8), np.eye(4)),
            np.zeros((1, n, 8, 8), np.uint8),
        )
        for n in (8, 9)
    ]
    with pytest.raises(DataError, match="differ in shape") as found:
        collate(samples, [sample_key(0, "s", 0, s.case) for s in samples])
    assert "0×9×8×8" in str(found.value)
