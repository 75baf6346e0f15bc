"""What `import mriad` offers from Python; see `mriad.__init__`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from mriad.errors import ExperimentError
from mriad.interfaces import INTERFACES, interface_named

if TYPE_CHECKING:
    from mriad.component import Component


def component(interface: str, type: str, /, **fields: Any) -> Component:
    """Make the configuration of any registered component; `.build(...)` on it gives the thing.

    Example: `mriad.component("loss", "standard.dice_ce", smooth=1e-5).build(task)`.

    Args:
        interface: "loss", "model", "augmenter", "dataset", …; see `mriad plugins list`.
        type: the component's name, such as "standard.dice_ce".
        fields: as in YAML; a nested component may be given as a mapping, a bare name, or an object.

    Raises:
        ExperimentError: no such interface or component, or a field is not valid; all faults in one message.
    """
    try:
        base = interface_named(interface)
    except KeyError as error:
        names = ", ".join(sorted(i.interface for i in INTERFACES))
        raise ExperimentError(f"there is no interface '{interface}'", where={"interfaces": names}) from error
    try:
        return base.resolve({"type": type, **fields})
    except PydanticCustomError as error:
        raise ExperimentError(error.message(), remedy="mriad plugins list") from error
    except ValidationError as error:
        lines = {".".join(map(str, e["loc"])) or type: e["msg"] for e in error.errors(include_url=False)}
        raise ExperimentError(
            f"the {interface} '{type}' cannot be made so", where=lines, remedy=f"mriad plugins show {type}"
        ) from error
