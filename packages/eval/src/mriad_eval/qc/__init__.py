"""The quality-control page: one static folder that opens from disk, offline, in any browser with WebGL2.

>>> from mriad_eval.qc import write_page, read_verdicts
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mriad.verdicts import Verdict, failed, read_verdicts

if TYPE_CHECKING:
    from mriad_eval.qc.page import Page, open_page, write_page, write_single, write_zip
    from mriad_eval.qc.picture import PairPicture, Picture

__all__ = [
    "Page",
    "PairPicture",
    "Picture",
    "Verdict",
    "failed",
    "open_page",
    "read_verdicts",
    "write_page",
    "write_single",
    "write_zip",
]

_PLACES = dict.fromkeys(("Page", "open_page", "write_page", "write_single", "write_zip"), "page")
_PLACES |= dict.fromkeys(("PairPicture", "Picture"), "picture")


def __getattr__(name: str) -> Any:
    """The page's own modules import matplotlib; reading a list of verdicts must not."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
