"""A component is its own typed config: a frozen pydantic model with a `type` and a `build`.

An interface is a direct subclass of `Component` that sets `interface`. A field typed by an interface accepts every
component that is registered under it when the value is validated, so plugins that load later count too. Its JSON
Schema is a marker `{"x-interface": NAME}`, which `mriad.schema` replaces by a `oneOf` over what is installed.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError, core_schema

from mriad.identity import fingerprint

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue


class Config(BaseModel):
    """Base of every typed setting: frozen, unknown keys refused, defaults validated."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        serialize_by_alias=True,  # `with` and `from` are Python keywords: fields are with_ and from_
        validate_by_name=True,
        validate_by_alias=True,
    )

    def __repr_args__(self) -> Any:
        """Show only what differs from the default."""
        for name, value in super().__repr_args__():
            field = type(self).model_fields.get(name) if name else None
            if field is None or field.is_required() or value != field.get_default(call_default_factory=True):
                yield name, value


class Component(Config):
    """Base of the interfaces. Subclass an interface (`Loss`, `Model`, …), never this."""

    interface: ClassVar[str] = ""
    references: ClassVar[tuple[str, ...]] = ()
    """Fields that hold names of stages; `Task.inputs` gives `build` the folders of what they made."""
    files: ClassVar[tuple[str, ...]] = ()
    """Fields that name a file, or a folder of files, which a stage's fingerprint takes for what is in it."""

    @classmethod
    def type_name(cls) -> str:
        """The `type` under which this class is registered, such as "standard.dice_ce"; "" for an interface."""
        field = cls.model_fields.get("type")
        return "" if field is None or not isinstance(field.default, str) else field.default

    @property
    def fingerprint(self) -> str:
        """Identity of this configuration."""
        return fingerprint(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """An interface validates by looking `type` up in the registry; a concrete component as itself."""
        if cls.type_name():
            return handler(source)
        interface = cls

        def validate(value: Any) -> Component:
            return interface.resolve(value)

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value, info: value.model_dump(mode=info.mode), info_arg=True
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """An interface leaves a marker for `mriad.schema`."""
        return handler(schema) if cls.type_name() else {"x-interface": cls.interface}

    @classmethod
    def resolve(cls, value: Any) -> Self:
        """Turn a mapping with a `type`, a bare type name, or a component into a component of this interface."""
        from mriad.registry import registry

        if isinstance(value, Component):
            if isinstance(value, cls):
                return value
            raise PydanticCustomError(
                "wrong_interface",
                "'{name}' is a {got}, where a {interface} is meant",
                {"name": value.type_name(), "got": value.interface, "interface": cls.interface},
            )
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise PydanticCustomError(
                "component_type",
                "a {interface} needs a mapping with a 'type', such as {example}",
                {
                    "interface": cls.interface,
                    "example": f"{{type: {next(iter(registry().names(cls.interface)), '…')}}}",
                },
            )
        found: Any = registry().find(cls.interface, value["type"])
        if found is None:
            hint = registry().hint(cls.interface, value["type"])
            raise PydanticCustomError(
                "unknown_component",
                "no {interface} named '{name}' is installed{hint}",
                {"interface": cls.interface, "name": value["type"], "hint": hint},
            )
        return found.model_validate(value)  # type: ignore[no-any-return]


class _CallableModule(ModuleType):
    """Importing this module binds `mriad.component` to it; users know that name as the function of `mriad.api`."""

    def __call__(self, interface: str, type: str, /, **fields: Any) -> Component:
        from mriad.api import component

        return component(interface, type, **fields)


sys.modules[__name__].__class__ = _CallableModule
