"""What docs/reference/hooks.md must say, read from the code. Run as a program it writes the parts between marks."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad import hookspecs
from mriad.interfaces import INTERFACES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mriad.component import Component

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "hooks.md"


def hooks() -> dict[str, Any]:
    """Every hook by name, in the order of `hookspecs`."""
    return {n: f for n, f in vars(hookspecs).items() if n.startswith("mriad_") and inspect.isfunction(f)}


def hook_lines() -> Iterator[str]:
    """One section a hook: its arguments, what it is for, and the callback that it is given."""
    for name, function in hooks().items():
        callback = getattr(hookspecs, function.__annotations__["register"]).__call__
        yield f"### `{name}({', '.join(inspect.signature(function).parameters)})`"
        yield ""
        yield f"{_text(function)} {_text(getattr(hookspecs, function.__annotations__['register']))}"
        yield ""
        yield f"    register{_signature(callback)}"
        yield ""


def interface_lines() -> Iterator[str]:
    """One section an interface: what its components must have, and what they may."""
    for base in INTERFACES:
        yield f"### `{base.interface}`: `{base.__name__}`"
        yield ""
        yield _text(base, paragraphs=9)
        yield ""
        for must, line in sorted(_members(base), key=lambda row: not row[0]):
            yield f"- {'**must** ' if must else ''}{line}"
        yield ""


def _members(base: type[Component]) -> Iterator[tuple[bool, str]]:
    for name, member in vars(base).items():
        if name.startswith("_") or name in ("interface", "model_config") or name in base.model_fields:
            continue
        if isinstance(member, property):
            code, shown = member.fget.__code__, f"{name} -> {member.fget.__annotations__['return']}"
        elif inspect.isfunction(member):
            code, shown = member.__code__, name + _signature(member)
        elif name in base.__annotations__ and "ClassVar" in str(base.__annotations__[name]):
            kind = str(base.__annotations__[name]).removeprefix("ClassVar[").removesuffix("]")
            yield False, f"`{name}: {kind} = {member!r}` on the class"
            continue
        else:
            continue
        yield "NotImplementedError" in code.co_names, f"`{shown}`: {_text(member)}"


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    kept = [
        f"{p.name}: {p.annotation}" + ("" if p.default is p.empty else f" = {p.default!r}")
        for name, p in signature.parameters.items()
        if name != "self"
    ]
    return f"({', '.join(kept)}) -> {signature.return_annotation}"


def _text(thing: Any, paragraphs: int = 1) -> str:
    """The docstring's first paragraphs, each in one line."""
    parts = (inspect.getdoc(thing) or "").split("\n\n")[:paragraphs]
    return "\n\n".join(re.sub(r"\s+", " ", part).strip() for part in parts)


def split(text: str, mark: str) -> tuple[str, str, str]:
    """The document before, between and after two marks, which stay with the outer parts."""
    before, rest = text.split(f"<!-- {mark}: from the code -->\n")
    part, after = rest.split(f"<!-- end of {mark} -->")
    return f"{before}<!-- {mark}: from the code -->\n", part, f"<!-- end of {mark} -->{after}"


def parts() -> dict[str, str]:
    """Mark → text."""
    return {
        "hooks": "\n" + "\n".join(hook_lines()) + "\n",
        "interfaces": "\n" + "\n".join(interface_lines()) + "\n",
    }


def main() -> None:
    """Rewrite the parts."""
    text = DOCUMENT.read_text("utf-8")
    for mark, part in parts().items():
        before, _, after = split(text, mark)
        text = before + part + after
    DOCUMENT.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
