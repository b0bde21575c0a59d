"""YAML that somebody declared something in, read with care: every problem names its line and field.

The text is untrusted: its size, depth and number of nodes are bounded, and aliases, tags and repeated keys are
refused before any value is built, so neither an alias bomb nor a Python object can come in.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 12
MAX_NODES = 5_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a declaration: line (from 1), dotted field, and what."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        """Return ``line 7: policy.default: …``."""
        return f"line {self.line}: {self.field + ': ' if self.field else ''}{self.message}"


class YamlInvalid(ValueError):
    """The text does not declare what it should. ``problems`` holds every problem found, in order of lines."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(slots=True)
class _Builder:
    """Builds plain values from YAML nodes and remembers the line of every path."""

    lines: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            limit = f"deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_NODES} values"
            raise YamlInvalid([Problem(line, path, limit)])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, _join(path, str(index)), depth + 1) for index, item in enumerate(node.value)]
        return self._scalar(node, path, line)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[Any, Any]:
        built: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(line, path, "a key must be a single value"))
                continue
            key = self._scalar(key_node, path, line)
            where = _join(path, str(key_node.value))
            if key in built:
                self.problems.append(Problem(line, where, "declared twice"))
            self.lines[where] = line
            built[key] = self.build(value_node, where, depth + 1)
        return built

    def _scalar(self, node: yaml.Node, path: str, line: int) -> Any:
        try:
            return _scalars().construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self.problems.append(Problem(line, path, f"not a plain value: {str(error).splitlines()[0]}"))
            return None


def _join(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part


class _Scalars(yaml.constructor.SafeConstructor):
    """Text, numbers, booleans and null. A date stays text: nothing declared is one."""


_Scalars.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: str(node.value))


def _scalars() -> _Scalars:
    return _Scalars()


def _checked_events(text: str) -> None:
    """Refuse what a declaration never needs before anything is composed from it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlInvalid([Problem(line, "", "anchors and aliases are not allowed")])
        if tag := getattr(event, "tag", None):
            raise YamlInvalid([Problem(line, "", f"tags such as {tag} are not allowed")])
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH + 1:
            raise YamlInvalid([Problem(line, "", f"deeper than {MAX_DEPTH} levels")])


def _composed(text: str, expected: str) -> yaml.Node:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise YamlInvalid([Problem(1, "", f"larger than {MAX_BYTES} bytes")])
    try:
        _checked_events(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlInvalid([Problem(mark.line + 1 if mark else 1, "", error.problem or "not YAML")]) from error
    except yaml.YAMLError as error:
        raise YamlInvalid([Problem(1, "", f"not YAML: {str(error).splitlines()[0]}")]) from error
    except RecursionError as error:
        raise YamlInvalid([Problem(1, "", "nested too deep")]) from error
    if not isinstance(node, yaml.MappingNode):
        raise YamlInvalid([Problem(1, "", f"expected a mapping with {expected}")])
    return node


def read_yaml(text: str, *, expected: str) -> tuple[Any, Mapping[str, int]]:
    """Return the plain values written in ``text`` and the line of every dotted path.

    Args:
        text: YAML of at most ``MAX_BYTES`` bytes.
        expected: what the mapping should hold, for the error when it is none.

    Raises:
        YamlInvalid: with every problem found.
    """
    node = _composed(text, expected)
    builder = _Builder()
    value = builder.build(node, "", 0)
    if builder.problems:
        raise YamlInvalid(sorted(builder.problems, key=lambda problem: problem.line))
    return value, builder.lines


def problems_of(
    error: ValidationError, lines: Mapping[str, int], models: Mapping[str, type[BaseModel]]
) -> list[Problem]:
    """Return what a model found wrong with values that ``read_yaml`` read, by line.

    ``models`` maps dotted paths without indices to the model declared there, for "did you mean".
    """
    found: dict[tuple[int, str], Problem] = {}
    for item in error.errors(include_url=False, include_context=False):
        path = _written_path(item["loc"], lines)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = _unknown_field(path, models)
        elif not item["loc"] or ": " in message:
            named, _, rest = message.partition(": ")
            if named in lines or named.rpartition(".")[0] in lines:
                path, message = named, rest
        line = _line(path, lines)
        found.setdefault((line, path), Problem(line, path, message))
    return [found[key] for key in sorted(found)]


def _written_path(location: tuple[int | str, ...], lines: Mapping[str, int]) -> str:
    """Keep the parts of pydantic's location that a user wrote (it also names union members)."""
    path = ""
    for index, part in enumerate(location):
        step = _join(path, str(part))
        if step in lines or index == len(location) - 1:
            path = step
    return path


def _line(path: str, lines: Mapping[str, int]) -> int:
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path, 1)


def _unknown_field(path: str, models: Mapping[str, type[BaseModel]]) -> str:
    parent, _, name = path.rpartition(".")
    model = models.get(".".join(part for part in parent.split(".") if not part.isdigit()))
    close = difflib.get_close_matches(name, list(model.model_fields), n=1, cutoff=0.5) if model else []
    return "unknown field" + (f"; did you mean {close[0]}?" if close else "")
