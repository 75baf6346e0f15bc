"""YAML 1.2 with origins."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mriad.errors import ExperimentError
from mriad.experiment.node import Origin
from mriad.experiment.yaml_file import read_file, read_value, scalar

if TYPE_CHECKING:
    from pathlib import Path


def read(tmp_path: Path, text: str):
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return read_file(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("010", 10),
        ("0o17", 15),
        ("0xff", 255),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:00", "12:30:00"),
        ("~", None),
        ("null", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("T1w", "T1w"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text, value):
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number():
    assert math.isnan(scalar(".nan"))


def test_quoted_scalars_are_strings(tmp_path):
    assert read(tmp_path, "a: '1e-4'\nb: \"no\"\nc: 'null'\n").root.plain() == {
        "a": "1e-4",
        "b": "no",
        "c": "null",
    }


def test_keys_are_strings(tmp_path):
    assert read(tmp_path, "{1: a, no: b, null: c}").root.plain() == {"1": "a", "no": "b", "null": "c"}


def test_every_value_has_its_line_and_column(tmp_path):
    root = read(tmp_path, "a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n").root
    lines = {path: (node.origin.line, node.origin.column) for path, node in root.walk() if path}
    assert lines == {
        ("a",): (1, 1),
        ("a", "b"): (2, 3),
        ("a", "c"): (3, 3),
        ("a", "c", 0): (4, 7),
        ("a", "c", 1): (5, 7),
        ("a", "c", 1, "d"): (5, 8),
    }
    assert str(root.child("a").origin) == f"{tmp_path / 'x.yaml'}:1"


def test_aliases_are_followed(tmp_path):
    assert read(tmp_path, "a: &x {k: [1, 2]}\nb: *x\n").root.plain() == {
        "a": {"k": [1, 2]},
        "b": {"k": [1, 2]},
    }


def test_duplicate_keys_name_both_lines(tmp_path):
    document = read(tmp_path, "a: 1\nb:\n  c: 1\n  c: 2\na: 3\n")
    assert [(str(f), f.origin.line) for f in document.faults] == [
        (f"b.c: this key is there twice, first at {tmp_path / 'x.yaml'}:3", 4),
        (f"a: this key is there twice, first at {tmp_path / 'x.yaml'}:1", 5),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: !!python/object:os.system x",
            "tags such as tag:yaml.org,2002:python/object:os.system are not read",
        ),
        ("a: {<<: 3}", "merge keys"),
        ("a: *b", "the alias \\*b has no anchor before it"),
        ("a: &b [*b]", "the alias \\*b has no anchor before it"),
        ("? [1, 2]\n: x", "a key is a plain word"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    faults = read(tmp_path, text).faults
    assert len(faults) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(faults[0]))


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("a: [1, 2", "not valid YAML", "x.yaml:1"),
        ("a: 1\n\tb: 2", "not valid YAML", "x.yaml:2"),
        ("a: 1\nb: c: d", "not valid YAML", "x.yaml:2"),
        ("", "an experiment file holds a mapping", "nothing"),
        ("# only a comment\n", "an experiment file holds a mapping", "nothing"),
        ("- a\n- b", "an experiment file holds a mapping", "another value"),
        ("a: 1\n---\nb: 2", "a file holds one experiment", "2"),
        ("a: \x07", "not valid YAML", "x.yaml"),
    ],
)
def test_unreadable_files_say_where(tmp_path, text, what, where):
    with pytest.raises(ExperimentError) as caught:
        read(tmp_path, text)
    assert what in str(caught.value)
    assert where in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ExperimentError, match=r"not UTF-8 text[\s\S]*byte +3"):
        read_file(path)


def test_a_byte_order_mark_is_no_key(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_file(path).root.plain() == {"a": 1}


def test_a_folder_cannot_be_read(tmp_path):
    with pytest.raises(ExperimentError, match="cannot be read"):
        read_file(tmp_path)


def test_values_of_overrides(tmp_path):
    root = read_value("{a: [1, no]}", "x={a: [1, no]}").root
    assert root.plain() == {"a": [1, "no"]}
    assert {str(node.origin) for _, node in root.walk()} == {"--set x={a: [1, no]}"}
    assert root.origin == Origin(override="x={a: [1, no]}")
    assert read_value("", "x=").root.plain() is None


TEXT = st.text(alphabet="abn0.:#-[]{}&*!,'\"\\ \n\té😀", max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(alphabet="abc_", min_size=1), VALUES, max_size=3))
def test_json_is_yaml(value):
    """YAML 1.2 was made a superset of JSON: json is an independent reader of the same text."""
    text = json.dumps(value, ensure_ascii=False)
    assert read_value(text, "").root.plain() == json.loads(text)
