"""The columnar index: the same as the plain one in every answer, without making cases."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import DataError
from mriad.images import FileSource
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet
from mriad_data.case_columns import may_repeat
from mriad_data.dicom_series import SeriesSource
from mriad_data.index import TableIndex
from mriad_data.index_file import IndexFile
from mriad_data.phantom.dataset import PhantomSpine
from mriad_data.sources import FrameSource, as_cell, from_cell
from mriad_data.splits import KFold, LeaveDomainOut, RandomSplit

LABELS = LabelSet.of({"cord": 1, "csf": 2}, ignore=[255])


@pytest.fixture
def cases(tmp_path, write):
    """Every kind of source, label and empty field."""
    draw = np.random.default_rng(0)
    for name in ("a", "b", "c", "mask"):
        write(tmp_path / f"{name}.nii.gz", draw.normal(size=(3, 4, 5)).astype(np.float32))
    write(tmp_path / "four.nii.gz", draw.normal(size=(3, 4, 5, 2)).astype(np.float32))

    def file(name, stacked=False):
        return FileSource(str(tmp_path / f"{name}.nii.gz"), stacked)

    return [
        Case(
            "sub-1_T1w",
            "sub-1",
            {"T1w": file("a"), "FLAIR": file("b")},
            {
                "hard": Label("hard", file("c"), file("mask")),
                "soft": Label("soft", file("four", stacked=True)),
            },
            "T1w",
            "siteÄ",
            "ses-1",
            {"area_mm2/C3": 71.5},
            {"levels": file("c")},
        ),
        Case("sub-1_T2w", "sub-1", {"T1w": FrameSource(str(tmp_path / "four.nii.gz"), 1)}, contrast="T2w"),
        Case(
            "sub-2",
            "sub-2",
            {"FLAIR": file("a")},
            {"hard": Label("pseudo", file("b"), None, file("mask"), ("cord",))},
            domain="siteB",
        ),
        Case("sub-3", "sub-3", {}, {"hard": Label("sparse", file("c"), file("mask"))}, "T1w", "siteB"),
    ]


@pytest.fixture
def index(cases, tmp_path):
    return TableIndex.of(cases, LABELS, tmp_path)


def test_cases_come_back_equal(index, cases):
    assert list(index) == cases
    assert [index[i] for i in range(-4, 4)] == cases + cases
    assert len(index) == 4
    with pytest.raises(IndexError):
        index[4]


def test_answers_are_those_of_the_plain_index(index, cases):
    plain = CaseIndex(cases, LABELS)
    assert index.fingerprint == plain.fingerprint
    assert index.persons == plain.persons
    for name in ("id", "person", "contrast", "domain", "session"):
        assert index.column(name) == plain.column(name)
    assert list(index.select(lambda c: c.domain == "siteB")) == list(
        plain.select(lambda c: c.domain == "siteB")
    )
    assert isinstance(index, CaseIndex)


def test_the_fingerprint_depends_on_everything(index, cases, tmp_path):
    seen = {index.fingerprint, index[1:].fingerprint}
    other = LabelSet.of({"cord": 1})
    seen |= {TableIndex.of(cases, other, tmp_path).fingerprint}
    changed = [Case(c.id, f"{c.person}x", c.channels, c.labels, c.contrast) for c in cases]
    seen |= {TableIndex.of(changed, LABELS, tmp_path).fingerprint}
    assert len(seen) == 4


def test_slices_are_indexes_too(index, cases):
    for cut in (slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(3, 1), slice(-2, None)):
        assert list(index[cut]) == cases[cut]
        assert index[cut].label_set == LABELS
        assert index[cut].persons == CaseIndex(cases[cut], LABELS).persons


def test_codes_are_the_column_in_numbers(index, cases):
    for some in (index, index[::-1], index[1:3], index.where(domain="nowhere")):
        for name in ("person", "contrast", "domain", "session"):
            codes, words = some.codes(name)
            assert [words[i] for i in codes] == some.column(name)
            assert sorted(words) == sorted(set(some.column(name)))


def test_splits_do_not_depend_on_the_kind_of_index():
    rows = [(f"c{i}", f"p{i // 2}", ("T1w", "T2w")[i % 2], f"site{i % 3}") for i in range(40)]
    columns = dict(
        zip(("id", "person", "contrast", "domain"), map(list, zip(*rows, strict=True)), strict=True)
    )
    table = TableIndex(pa.table(columns), LABELS)
    for some in (table, table[::-1], table.where(contrast="T2w"), table[7:]):
        plain = CaseIndex(list(some), LABELS)
        for split in (KFold(k=4), RandomSplit(), LeaveDomainOut(by="contrast")):
            if isinstance(split, LeaveDomainOut) and len(set(some.column("contrast"))) < 2:
                continue
            assert split.build(some, 0, 1) == split.build(plain, 0, 1)


def test_filters_by_column(index):
    assert index.where(person="sub-1").column("id") == ["sub-1_T1w", "sub-1_T2w"]
    assert index.where(contrast=["T1w", "T2w"], domain="").column("id") == ["sub-1_T2w"]
    assert index.where(id=["sub-3", "none"]).column("id") == ["sub-3"]
    assert index.where(has=["label:hard", "image:FLAIR"]).column("id") == ["sub-1_T1w", "sub-2"]
    assert len(index.where()) == 4
    assert len(index.where(domain="nowhere")) == 0
    assert index.where(domain="nowhere").persons == ()
    assert index.where(domain="nowhere").column("domain") == []
    assert index.where(domain="siteB").where(person="sub-2").column("id") == ["sub-2"]
    with pytest.raises(DataError, match="no column 'label:soft2'"):
        index.where(has=["label:soft2"])
    with pytest.raises(DataError, match="no column 'kind:hard'"):
        index.where(**{"kind:hard": "hard"})


def test_pickles_carry_only_their_rows(index, cases):
    assert list(pickle.loads(pickle.dumps(index))) == cases
    many = TableIndex(
        pa.table({"id": [f"c{i}" for i in range(5000)], "person": [f"person-{i}" for i in range(5000)]}),
        LABELS,
    )
    few = many[10:12]
    assert len(pickle.dumps(few)) < 3000
    assert pickle.loads(pickle.dumps(few)).column("person") == ["person-10", "person-11"]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_written_and_opened(index, cases, tmp_path, ending):
    path = index.write(tmp_path / f"index.{ending}")
    again = TableIndex.open(path)
    assert list(again) == cases
    assert again.label_set == LABELS
    assert again.fingerprint == index.fingerprint
    assert IndexFile(path=path).build().fingerprint == index.fingerprint
    assert str(tmp_path) not in str(again.table["image:T1w"].to_pylist())
    moved = TableIndex.open(path, root="/elsewhere")
    assert moved[0].channels["T1w"].location == "/elsewhere/a.nii.gz"
    assert moved.where(domain="siteB").write(tmp_path / f"few.{ending}")
    assert len(TableIndex.open(tmp_path / f"few.{ending}")) == 2


def test_bad_files(index, tmp_path):
    with pytest.raises(DataError, match=r"written as \.parquet or \.arrow"):
        index.write(tmp_path / "index.csv")
    path = index.write(tmp_path / "index.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-30])
    pa.parquet.write_table(pa.table({"id": ["a"], "person": ["b"]}), tmp_path / "plain.parquet")
    for name in ("cut.parquet", "none.parquet", "plain.parquet", "none.arrow"):
        with pytest.raises(DataError, match="cannot be opened as an index of cases") as found:
            TableIndex.open(tmp_path / name)
        assert name in str(found.value)
    with pytest.raises(DataError, match="no index of cases by its header"):
        TableIndex.open(tmp_path / "plain.parquet")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab\x00é"), max_size=20), min_size=1, max_size=40),
    st.integers(0, 5),
    st.integers(1, 7),
)
def test_a_text_that_occurs_twice_is_never_overlooked(texts, start, size):
    chunks = pa.chunked_array([texts[i : i + size] for i in range(0, len(texts), size)], pa.string())
    for column in (chunks, chunks.slice(start)):
        values = column.to_pylist()
        assert may_repeat(column) == (len(set(values)) < len(values))


def test_texts_that_differ_in_one_byte_anywhere_are_different():
    base = "sub-" + "0" * 36
    texts = [base, *(base[:i] + "1" + base[i + 1 :] for i in range(40)), *(base[:i] for i in range(40))]
    assert not may_repeat(pa.chunked_array([texts]))
    assert may_repeat(pa.chunked_array([[*texts, base]]))
    assert may_repeat(pa.chunked_array([["x" * 300, "y"]]))  # too long to be told quickly: the caller looks
    assert not may_repeat(pa.chunked_array([[""]]))
    assert not may_repeat(pa.chunked_array([], pa.string()))


def test_ids_are_checked_in_columns():
    def table(*ids):
        return pa.table({"id": list(ids), "person": ["p"] * len(ids)})

    with pytest.raises(DataError, match="two cases have one id") as found:
        TableIndex(table("a", "b", "a", "c", "c"), LABELS)
    assert "a, c" in str(found.value)
    for name in ("", ".x", "a/b", "a\\b", "a\0b"):
        with pytest.raises(DataError, match="cannot be the id of a case"):
            TableIndex(table("ok", name), LABELS)
    with pytest.raises(DataError, match="does not have the columns") as found:
        TableIndex(pa.table({"id": ["a"], "patient": ["b"]}), LABELS)
    assert "patient" in str(found.value)
    assert "person" in str(found.value)
    with pytest.raises(DataError, match="voxels lie in files"):
        TableIndex.of(PhantomSpine(persons=1).build(), LABELS)


def test_an_empty_index():
    empty = TableIndex(
        pa.table({"id": pa.array([], pa.string()), "person": pa.array([], pa.string())}), LABELS
    )
    assert (len(empty), list(empty), empty.persons, empty.column("domain")) == (0, [], (), [])
    assert empty.fingerprint == CaseIndex([], LABELS).fingerprint


names = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0/\\"), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.dictionaries(
        names.filter(lambda n: not n.startswith(".")), st.tuples(names, names, names), max_size=8
    )
)
def test_any_text_survives(rows):
    cases = [
        Case(i, person, {"image": FileSource(f"/data/{file}.nii")}, contrast=contrast)
        for i, (person, contrast, file) in rows.items()
    ]
    index = TableIndex.of(cases, LABELS, "/data")
    assert list(index) == cases
    assert index.persons == CaseIndex(cases, LABELS).persons
    assert list(pickle.loads(pickle.dumps(index))) == cases


@pytest.mark.parametrize(
    "source",
    [
        FileSource("/data/sub-1/größe.nii.gz"),
        FileSource("/elsewhere/x.nii", stacked=True),
        FileSource("/data/a b/x.nii", stacked=True),
        FrameSource("/data/x.nii", 3),
        FrameSource("/elsewhere/x.nii", 0),
        SeriesSource("/data/p 1/t2", "1.2.840.3"),
    ],
)
@pytest.mark.parametrize("root", ["/data", ""])
def test_sources_as_text(source, root):
    assert from_cell(as_cell(source, root), root) == source


def test_text_that_is_no_source():
    with pytest.raises(DataError, match="not known: s3"):
        from_cell("s3://bucket/x.nii")
    with pytest.raises(DataError, match="not UTF-8"):
        as_cell(FileSource("/data/\udcff.nii"))


def test_a_volume_of_a_4d_file(tmp_path, write):
    data = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    path = str(write(tmp_path / "four.nii.gz", data))
    np.testing.assert_array_equal(FrameSource(path, 1).read().data, data[..., 1])
    assert FrameSource(path, 0).fingerprint != FrameSource(path, 1).fingerprint
    with pytest.raises(DataError, match="fewer volumes") as found:
        FrameSource(path, 2).read()
    assert "at least 3, one a channel" in str(found.value)
