"""The files below a folder, listed once, with what is wrong with the folder itself."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mriad_data.faults import Faults

NIFTI = (".nii.gz", ".nii")


@dataclass
class Tree:
    """Files below `root`, by folder. Names are relative to `root`, with `/`; "" is the root itself."""

    root: Path
    folders: dict[str, list[str]] = field(default_factory=dict)
    """Folder → names of its files, sorted."""
    missing: set[str] = field(default_factory=set)
    """Links whose target is not there, such as a file that git-annex has not fetched."""

    def files(self) -> Iterator[tuple[str, str]]:
        """(folder, name) of every file."""
        for folder, names in self.folders.items():
            for name in names:
                yield folder, name

    def path(self, folder: str, name: str) -> str:
        """A file's path below the root."""
        return f"{folder}/{name}" if folder else name


def nifti_stem(name: str) -> str:
    """The name of a NIfTI file without .nii or .nii.gz; "" for another file."""
    for ending in NIFTI:
        if name.endswith(ending):
            return name[: -len(ending)]
    return ""


def list_tree(root: Path, faults: Faults, enter: Callable[[str], bool] = lambda folder: True) -> Tree:
    """List the files below a folder; hidden files and folders are left out.

    Links to folders are followed. Noted as faults: links that lead back into a folder that is being listed,
    names that differ in upper and lower case or in Unicode form alone (one file on many systems), names that are
    not UTF-8, and folders that cannot be read.

    Args:
        root: the folder.
        faults: where faults are noted, by path.
        enter: says of a folder (relative to `root`) whether to list it.

    Raises:
        DataError: `root` is not there or not a folder.
    """
    if not root.is_dir():
        raise DataError(
            "a folder is meant, not a file" if root.exists() else "there is no such folder",
            where={"folder": str(root)},
        )
    tree = Tree(root)
    top = root.stat()
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset({(top.st_dev, top.st_ino)}))]
    while waiting:
        folder, chain = waiting.pop()
        inner = _list_folder(tree, folder, chain, faults)
        waiting += [(name, seen) for name, seen in reversed(inner) if enter(name)]
    tree.folders = dict(sorted(tree.folders.items()))
    return tree


def _list_folder(
    tree: Tree, folder: str, chain: frozenset[tuple[int, int]], faults: Faults
) -> list[tuple[str, frozenset[tuple[int, int]]]]:
    """Note the files of one folder in `tree`; return its folders with the folders that led to them."""
    names: list[str] = []
    inner: list[tuple[str, frozenset[tuple[int, int]]]] = []
    seen: dict[str, str] = {}
    try:
        with os.scandir(tree.root / folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                name = entry.name
                if name.startswith("."):
                    continue
                path = tree.path(folder, name)
                if not _readable(name):
                    faults.add(ascii(path), "the name is not UTF-8: rename it")
                    continue
                folded = name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()
                if folded in seen:
                    faults.add(path, f"is one file with {seen[folded]} where case is not told apart")
                seen[folded] = name
                if entry.is_dir():
                    status = entry.stat()
                    here = (status.st_dev, status.st_ino)
                    if here in chain:
                        faults.add(path, "a link that leads back into itself: remove it")
                    else:
                        inner.append((path, chain | {here}))
                else:
                    if entry.is_symlink() and not entry.is_file():
                        tree.missing.add(path)
                    names.append(name)
    except OSError as error:
        # The path may be too long to be opened as a whole, or a link may lead to itself.
        faults.add(folder or ".", f"the folder cannot be listed: {error.strerror or error}")
    if names:
        tree.folders[folder] = names
    return inner


def _readable(name: str) -> bool:
    """Whether a name is text: Python keeps bytes that are not UTF-8 as lone surrogates."""
    if name.isascii():
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
