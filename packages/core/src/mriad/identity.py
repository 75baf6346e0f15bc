"""Identity of things: SHA-256 of canonical JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

SHORT = 12  # hexadecimal digits shown to people; 48 bits


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys, no spaces and no NaN, so that equal values give equal text.

    Pydantic models are dumped in JSON mode first.

    Raises:
        TypeError: `value` holds something that JSON cannot.
        ValueError: `value` holds NaN or infinity.
    """

    def dump(thing: Any) -> Any:
        if hasattr(thing, "model_dump"):
            return thing.model_dump(mode="json")
        if isinstance(thing, (set, frozenset)):
            return sorted(thing)
        raise TypeError(f"{type(thing).__name__} has no canonical form")

    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=dump
    )


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of `canonical_json(value)` as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def short(digest: str) -> str:
    """Return the part of a fingerprint that people see."""
    return digest[:SHORT]
