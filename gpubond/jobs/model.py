# SPDX-License-Identifier: Apache-2.0
"""The base of every data model that is hashed: strict, frozen, no unknown fields; and readable errors."""

from __future__ import annotations

import json
import re
from typing import Any

import rfc8785
from pydantic import BaseModel, ConfigDict, ValidationError

from gpubond.errors import BadInput

_REMEDIES = {
    "extra_forbidden": "remove the field or correct its name",
    "missing": "add the field",
    "literal_error": "use one of the values named",
    "string_type": "write a string, in quotes",
    "int_type": "write a whole number, without quotes or a fraction",
    "float_type": "write a number, without quotes",
    "bool_type": "write true or false",
    "tuple_type": "write a list, in [ ]",
    "dict_type": "write an object, in { }",
    "model_type": "write an object, in { }",
    "string_pattern_mismatch": "use only the characters and the form allowed",
}
# In place of pydantic's own words.
_WORDS = {"extra_forbidden": "there is no such field", "missing": "the field is missing"}
_MAX_SHOWN = 20
_MAX_NESTING = 32
_STRING_OR_BRACKET = re.compile(rb'"(?:\\.|[^"\\])*+"|[\[\]{}]')


class Model(BaseModel):
    """Frozen; unknown fields are errors, and so is a number as a string or the like."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    def canonical(self) -> bytes:
        """Canonical JSON (RFC 8785): what is hashed and stored."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def _shown(value: object) -> str:
    text = json.dumps(value, default=repr, ensure_ascii=True)
    return text if len(text) <= 120 else text[:117] + "..."


def bad_input(error: ValidationError, what: str) -> BadInput:
    """The validation error as one BadInput that lists every field at fault.

    Field paths are as in the file, list positions counted from 0: `cuda.launches.0.block`.
    """
    found = each_bad_input(error, what)
    if not found:
        raise AssertionError("a validation error without details") from error
    lines = [f"{single.message}; {single.remedy}" for single in found]
    if len(lines) > _MAX_SHOWN:
        lines[_MAX_SHOWN:] = [f"... and {len(lines) - _MAX_SHOWN} more"]
    count = "1 error" if len(found) == 1 else f"{len(found)} errors"
    message = f"{what} is not valid: {count}\n" + "\n".join("  " + line for line in lines)
    return BadInput(message, field=found[0].field, value=found[0].value, remedy=found[0].remedy)


def each_bad_input(error: ValidationError, what: str) -> list[BadInput]:
    """The validation error as one BadInput for each field at fault."""
    found = []
    for detail in error.errors(include_url=False):
        where = ".".join(str(part) for part in detail["loc"]) or what
        kind = detail["type"]
        message = _WORDS.get(kind) or detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        value: Any = None if kind in ("missing",) else detail["input"]
        if isinstance(value, dict | list) and kind == "value_error":
            value = None  # the message names the part at fault; the whole section would hide it
        shown = "" if value is None else f" (is {_shown(value)})"
        found.append(
            BadInput(
                f"{where}: {message}{shown}",
                field=where,
                value=value if isinstance(value, str | int | float | None) else _shown(value),
                remedy=_REMEDIES.get(kind, "correct the value"),
            )
        )
    return found


def _nesting(data: bytes) -> int:
    deepest = level = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        found = match.group()
        if found in (b"[", b"{"):
            level += 1
            deepest = max(deepest, level)
        elif found in (b"]", b"}"):
            level -= 1
    return deepest


def read_json(data: bytes, what: str) -> Any:
    """Parse JSON strictly: UTF-8, no duplicate keys, no NaN or Infinity; BadInput else."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise BadInput(
                    f"{what} has the key {key!r} twice in one object",
                    field=key,
                    remedy="remove one of the two",
                )
            result[key] = value
        return result

    def no_constant(name: str) -> Any:
        raise BadInput(f"{what} holds {name}, which JSON does not know", value=name, remedy="write a finite number")

    # Counted first: a parser that recurses crashes the process where a library has raised the recursion limit.
    if _nesting(data) > _MAX_NESTING:
        raise BadInput(
            f"{what} is nested too deeply: at most {_MAX_NESTING} levels are allowed", field=what, remedy="flatten it"
        )
    try:
        return json.loads(data.decode(), object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except UnicodeDecodeError as error:
        raise BadInput(f"{what} is not UTF-8: byte {error.start}", field=what, remedy="save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            field=what,
            value=f"line {error.lineno}",
            remedy="correct the file there",
        ) from error
