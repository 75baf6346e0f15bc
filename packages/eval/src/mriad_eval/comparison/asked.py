"""The question that an ablation's file asked, as its comparison noted it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.launch.files import read_json

from mriad_eval.comparison.study import Question

if TYPE_CHECKING:
    from mriad.launch.files import RunsRoot


def known_question(given: list[str], root: RunsRoot) -> Question | None:
    """The question of the one ablation that was named, by folder or name; None where it has no comparison yet."""
    if len(given) != 1:
        return None
    place = Path(given[0])
    folders = [place] if place.is_dir() else sorted(root.runs.glob("*")) if root.runs.is_dir() else []
    for folder in folders:
        record = read_json(folder / "run.json") or {}
        named = place.is_dir() or given[0] in (folder.name, record.get("name"))
        content = read_json(folder / "comparison" / "comparison.json")
        if named and record.get("kind") == "ablation" and content is not None:
            known = content.get("question") or {}
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}
            return Question(**fields)
    return None
