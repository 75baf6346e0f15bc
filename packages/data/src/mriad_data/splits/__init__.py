"""Splits by person: folds, fractions, one or a domain left out, or a file. Every fold has all three sides."""

from mriad_data.splits.file import FileSplit
from mriad_data.splits.fractions import KFold, RandomSplit
from mriad_data.splits.leave_domain_out import LeaveDomainOut
from mriad_data.splits.leave_one_out import LeaveOneOut
from mriad_data.splits.persons import SIDES, Part, Persons
from mriad_data.splits.published import PublishedSplit
from mriad_data.splits.sides import check_sides

__all__ = [
    "SIDES",
    "FileSplit",
    "KFold",
    "LeaveDomainOut",
    "LeaveOneOut",
    "Part",
    "Persons",
    "PublishedSplit",
    "RandomSplit",
    "check_sides",
]
