"""Members by fold: parts of the training persons."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import SplitError
from mriad.stages.members import inner_parts, inner_split
from mriad.vocabulary import Case


def cases(persons, domains=("a", "b"), each=2):
    return [
        Case(id=f"p{p}-{i}", person=f"p{p}", channels={}, domain=domains[p % len(domains)])
        for p in range(persons)
        for i in range(each)
    ]


@settings(max_examples=50, deadline=None)
@given(persons=st.integers(2, 40), n=st.integers(2, 5), seed=st.integers(0, 9))
def test_parts_are_even_and_cover_everybody_once(persons, n, seed):
    known = cases(persons)
    if persons < n:
        with pytest.raises(SplitError, match="cannot be cut"):
            inner_parts(known, n, seed)
        return
    parts = inner_parts(known, n, seed)
    assert set(parts) == {case.person for case in known}
    for group in (known, [c for c in known if c.domain == "a"]):
        sizes = [len({c.person for c in group if parts[c.person] == k}) for k in range(n)]
        assert max(sizes) - min(sizes) <= 1
    validated = [inner_split(known, (k, n), seed)[1] for k in range(n)]
    assert sorted(sum(validated, ())) == sorted(c.id for c in known)
    for k in range(n):
        training, validation = inner_split(known, (k, n), seed)
        people = [{i.split("-")[0] for i in side} for side in (training, validation)]
        assert not people[0] & people[1]
        assert len(training) + len(validation) == len(known)


def test_order_of_cases_does_not_matter_but_the_seed_does():
    known = cases(20)
    assert inner_parts(known, 5, 1) == inner_parts(known[::-1], 5, 1)
    assert inner_parts(known, 5, 1) != inner_parts(known, 5, 2)
