"""Request bodies: what each may hold comes from the model's declarations, pydantic checks it.

:class:`Body` is one kind of body: a resource in one place (C: POST, U: PUT, N: nested in a larger POST). Handlers
call :meth:`Body.parse` and get a plain dict of valid attributes: only what was given, normalised. ``openapi`` reads
its JSON schema.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Required, get_args, get_origin

import falcon
from annotated_types import Le, MaxLen
from pydantic import AfterValidator, BeforeValidator, ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import ErrorDetails, PydanticCustomError, from_json
from typing_extensions import TypedDict

from tavia.api.errors import ApiError, invalid_input, not_supported, too_large
from tavia.api.formats import FORMATS
from tavia.api.later import LATER, LATER_VALUES
from tavia.model.attributes import Attribute, Format, attributes
from tavia.store.schema import without_none

LARGEST_INT = 2**31 - 1
"""The upper limit of integers that declare none, as of Octavia's integer columns."""

_NOT_SUPPORTED = "not_supported"


def read_json(req: falcon.Request, limit: int) -> Any:
    """The request's body, of ``limit`` bytes at most, None when there is none. Only application/json is read: no page
    of another origin can send that without asking first (CORS). Raises ApiError and HTTPUnsupportedMediaType.
    """
    if (req.content_length or 0) > limit:
        raise too_large(limit)
    raw = (req.stream if req.content_length is None else req.bounded_stream).read(limit + 1)
    if len(raw) > limit:
        raise too_large(limit)
    if not raw:
        return None
    content_type = (req.content_type or "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise falcon.HTTPUnsupportedMediaType(description="The body must be application/json.")
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise ApiError(400, "Request is not in valid JSON format") from None


class Body:
    """A kind of request body.

    ``nested`` gives types to attributes whose declared type says too little or that only bodies have; ``defaults`` is
    what the configuration fills in where nothing is given.
    """

    def __init__(
        self,
        resource: type[Any],
        place: Literal["C", "U", "N"],
        *,
        nested: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        declared = [a for a in attributes(resource) if a.places.has(place)]
        later = [a for a in attributes(LATER[resource]) if a.places.has(place)] if resource in LATER else []
        later_values = LATER_VALUES.get(resource, {})
        fields = {a.name: _field(a, place, later_values.get(a.name, ())) for a in declared} | dict(nested or {})
        fields |= {a.name: _neutral_only(a) for a in later}
        if place == "C":
            fields["tenant_id"] = Annotated[str, MaxLen(36)]
        self._known = frozenset(fields)
        self._later = frozenset(a.name for a in later)
        self._defaults = dict(defaults or {}) if place != "U" else {}
        self._resets = _resets([*declared, *later], defaults or {}) if place == "U" else {}
        forbidding = with_config(ConfigDict(extra="forbid"))
        typed = forbidding(TypedDict(f"{resource.__name__}{place}", fields, total=False))  # type: ignore[operator]
        self.type: Any = Annotated[typed, BeforeValidator(self._without_nulls), AfterValidator(self._settled)]

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Made when first asked for: that is what costs, and a nested body has none of its own."""
        return TypeAdapter(self.type)

    def parse(self, document: Any, argument: str, root: str) -> dict[str, Any]:
        """The attributes under ``root`` of a parsed JSON document; ``argument`` is the name that fault strings use.

        Raises ApiError: 400, or 501 for an attribute that has no effect yet.
        """
        given = root_of(document, argument, root)
        accepted: dict[str, Any] = validated(self.adapter, given, argument, root)
        return self._nulls_reset(given) | accepted

    def _nulls_reset(self, given: Any) -> dict[str, Any]:
        """A null in a PUT resets the attribute to its default."""
        nulls = [name for name, value in given.items() if value is None] if isinstance(given, dict) else []
        return {name: self._resets[name] for name in nulls if name in self._resets and name not in self._later}

    def _without_nulls(self, value: Any) -> Any:
        """A null in a POST is "not given"; in a PUT only an attribute with a default takes one."""
        if not isinstance(value, dict):
            return value
        droppable = self._resets or self._known
        return {name: v for name, v in value.items() if v is not None or name not in droppable}

    def _settled(self, value: dict[str, Any]) -> dict[str, Any]:
        settled = self._defaults | {name: v for name, v in value.items() if name not in self._later}
        if "tenant_id" in settled:
            settled.setdefault("project_id", settled.pop("tenant_id"))
        return settled


def root_of(document: Any, argument: str, root: str) -> Any:
    """What stands under the one key of a body. Raises ApiError where it is missing or others stand beside it."""
    if not isinstance(document, dict | None):
        raise ApiError(400, "Request is not in valid JSON format: the body must be an object")
    for name in (document or {}).keys() - {root}:
        raise ApiError(400, f'Unknown argument: "{name[:255]}"')
    if document is None or document.get(root) is None:
        raise ApiError(400, f'Missing argument: "{argument}"')
    return document[root]


def validated(adapter: TypeAdapter[Any], value: Any, argument: str, root: str) -> Any:
    """``value`` as the adapter has it. Raises ApiError for the first thing that is wrong with it."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise _as_api_error(error.errors(include_url=False)[0], argument, root) from None


def closed_dict(name: str, fields: dict[str, Any]) -> Any:
    """The type of a JSON object with these attributes and no others; nulls in it are "not given"."""
    typed = with_config(ConfigDict(extra="forbid"))(TypedDict(name, fields, total=False))  # type: ignore[operator]
    return Annotated[typed, BeforeValidator(_drop_nulls)]


def list_of(body: Body) -> Any:
    """The type of a JSON list of such objects."""
    return list[body.type]  # type: ignore[name-defined]


def format_check(name: str) -> AfterValidator:
    """The check of one of ``formats``, for a type."""
    return AfterValidator(FORMATS[name])


def _drop_nulls(value: Any) -> Any:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _resets(declared: list[Attribute], configured: Mapping[str, Any]) -> dict[str, Any]:
    """What a null in a PUT means for each attribute that has a default."""
    defaults = {}
    for attribute in declared:
        field = attribute.field
        if field.default_factory is not dataclasses.MISSING:
            defaults[attribute.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            defaults[attribute.name] = field.default
    # api-surface, "Requests in general": a null admin_state_up is no reset but means false.
    off = {"admin_state_up": False} if "admin_state_up" in defaults else {}
    return defaults | off | {name: value for name, value in configured.items() if name in defaults}


def _field(attribute: Attribute, place: str, later: Collection[str]) -> Any:
    def check(value: Any) -> Any:
        if isinstance(value, str) and value in later:
            raise PydanticCustomError(_NOT_SUPPORTED, "no effect yet", {"value": value})
        return value

    checked = _checked(without_none(attribute.type), attribute.markers)
    checked = Annotated[checked, BeforeValidator(check)] if later else checked
    return Required[checked] if attribute.places.needs(place) else checked


def _checked(annotation: Any, markers: tuple[Any, ...]) -> Any:
    """The declared type with what pydantic has to check: limits, and each Format as its function."""
    if get_origin(annotation) is list:
        return list[_inner(get_args(annotation)[0])]  # type: ignore[misc]
    for marker in _constraints(annotation, markers):
        annotation = Annotated[annotation, marker]
    return annotation


def _inner(annotation: Any) -> Any:
    markers = getattr(annotation, "__metadata__", ())
    return _checked(annotation.__origin__, markers) if markers else annotation


def _constraints(annotation: Any, markers: tuple[Any, ...]) -> Iterator[Any]:
    if annotation is int:
        yield Le(LARGEST_INT)  # a declared limit comes later and wins
    for marker in markers:
        if isinstance(marker, Format):
            yield format_check(marker.name)
        elif isinstance(marker, MaxLen):
            if annotation is str:
                yield marker
        else:
            yield marker


def _neutral_only(attribute: Attribute) -> Any:
    """Any value, as long as it asks for nothing."""
    factory = attribute.field.default_factory
    neutral = attribute.field.default if factory is dataclasses.MISSING else factory()

    def check(value: Any) -> Any:
        if value != neutral and (value or neutral):
            raise PydanticCustomError(_NOT_SUPPORTED, "no effect yet")
        return neutral

    return Annotated[Any, AfterValidator(check)]


def _as_api_error(error: ErrorDetails, argument: str, root: str) -> ApiError:
    where = ".".join(str(part) for part in error["loc"]) or root
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        parent = ".".join([f"{argument}.{root}", *(str(part) for part in error["loc"][:-1])])
        return ApiError(400, f"Unknown attribute for argument {parent}: {str(error['loc'][-1])[:255]}")
    if kind == _NOT_SUPPORTED:
        return not_supported(" ".join((where, *error.get("ctx", {}).values())))
    if kind == "missing" or value is None:
        return invalid_input(where, None, "Mandatory field missing.")
    return invalid_input(where, value, _reason(error))


def _reason(error: ErrorDetails) -> str:
    """Why, in the words of api-surface, "Answers and errors"."""
    ctx = error.get("ctx", {})
    reasons = {
        "string_type": "Value should be string",
        "string_too_long": f"Value should have a maximum character requirement of {ctx.get('max_length')}",
        "greater_than_equal": f"Value should be greater or equal to {ctx.get('ge')}",
        "less_than_equal": f"Value should be lower or equal to {ctx.get('le')}",
        "literal_error": "Value should be one of: " + ", ".join(_alternatives(ctx)),
        "bool_parsing": "Value is not an unambiguous boolean",
        "bool_type": "Value is not an unambiguous boolean",
        "int_parsing": "Value should be an integer",
        "int_from_float": "Value should be an integer",
        "int_type": "Value should be an integer",
        "value_error": str(ctx.get("error", "")),
    }
    return reasons.get(error["type"], error["msg"])


def _alternatives(ctx: Mapping[str, Any]) -> list[str]:
    return sorted(re.findall(r"'([^']*)'", str(ctx.get("expected", ""))))
