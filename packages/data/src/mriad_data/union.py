"""`data.union`: several data sets side by side in one index, with one ontology over their label sets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

from mriad.errors import DataError
from mriad.interfaces import Dataset
from mriad.vocabulary import CaseIndex, LabelSet
from pydantic import Field, model_validator

from mriad_data.ontology import LabelMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mriad.vocabulary import Case


class Union(Dataset):
    """Cases of several data sets, one after the other.

    Structures of one name are one. Where label sets differ, each data set annotates its own structures only: what is
    none of them is unknown as soon as a network is asked for others too (`data.structures` gives each domain its
    own), unless `elsewhere: background` says that they cannot be there. A person's name means the same person in
    every data set; `prefixes` keep namesakes apart.
    """

    type: Literal["data.union"] = "data.union"
    of: list[Dataset] = Field(min_length=1, description="The data sets.")
    domains: list[str] = Field(
        default_factory=list, description="Domain of every case, by data set; empty: as the data sets say."
    )
    prefixes: list[str] = Field(
        default_factory=list, description="Put before ids and persons, by data set; empty: nothing is."
    )
    ontology: dict[str, int] = Field(
        default_factory=dict,
        description="Structure → value; empty: the values of the data sets if they agree, else 1, 2, … in order.",
    )
    elsewhere: Literal["unknown", "background"] = Field(
        "unknown",
        description="What a voxel without a label is for structures that its data set does not annotate.",
    )

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        for name in ("domains", "prefixes"):
            given = getattr(self, name)
            if given and len(given) != len(self.of):
                raise ValueError(
                    f"`{name}` needs one for each of the {len(self.of)} data sets, not {len(given)}"
                )
        return self

    def build(self) -> CaseIndex:
        """Return all cases.

        Raises:
            DataError: a data set cannot be read, or two have a case of one id.
        """
        parts = [dataset.build() for dataset in self.of]
        ontology = self.ontology or joint_ontology([part.label_set for part in parts])
        maps: list[LabelMap | None] = []
        for part in parts:
            names = part.label_set.names
            absent = [n for n in ontology if n not in names] if self.elsewhere == "background" else []
            maps.append(LabelMap.between(part.label_set, ontology, {}, absent) if ontology else None)
        ignored = any(m.target.ignore for m in maps if m is not None)
        label_set = (
            LabelSet.of(ontology, [max(ontology.values()) + 1] if ignored else [])
            if ontology
            else LabelSet(())
        )
        cases = [case for i, part in enumerate(parts) for case in self._part(i, part, maps[i], label_set)]
        ids: set[str] = set()
        for case in cases:
            if case.id in ids:
                raise DataError(
                    "two data sets have a case of one id",
                    where={"case": case.id},
                    remedy="give each data set a prefix: prefixes: [a-, b-]",
                )
            ids.add(case.id)
        made = CaseIndex(cases, label_set)
        return made

    def _part(self, i: int, index: CaseIndex, mapping: LabelMap | None, whole: LabelSet) -> Iterator[Case]:
        same = index.label_set == whole
        prefix = self.prefixes[i] if self.prefixes else ""
        for case in index:
            mapped = case if same or mapping is None else mapping.case(case)
            yield replace(
                mapped,
                id=prefix + mapped.id,
                person=prefix + mapped.person,
                domain=self.domains[i] if self.domains else mapped.domain,
            )


def joint_ontology(label_sets: Sequence[LabelSet]) -> dict[str, int]:
    """All structures by name: with the values of the label sets if no two clash, else numbered from 1."""
    values: dict[str, int] = {}
    clash = False
    for label_set in label_sets:
        for structure in label_set.structures:
            clash |= values.setdefault(structure.name, structure.value) != structure.value
    if clash or len(set(values.values())) < len(values):
        return {name: i for i, name in enumerate(values, 1)}
    return values
