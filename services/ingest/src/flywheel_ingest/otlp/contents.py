"""What was said to a model and by it, from the attributes of its span or event, to the two texts of a call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import orjson

from flywheel_ingest.otlp.drafts import Draft
from flywheel_ingest.otlp.names import CONTENT_EVENTS
from flywheel_ingest.otlp.records import Attributes, Log, Read, Span, Unreadable
from flywheel_ingest.redacting import FLAG

Side = Literal["input_text", "output_text"]
SYSTEM: Final = "gen_ai.system_instructions"
# The first that is there: messages before texts, since messages say who spoke. A name with a dot at its end stands for
# its numbered attributes.
_SIDES: Final[Mapping[Side, tuple[str, ...]]] = {
    "input_text": (
        "gen_ai.input.messages",
        "gen_ai.input.messages.",
        "llm.input_messages.",
        "gen_ai.prompt.",
        "gen_ai.prompt",
        "llm.prompts.",
        "llm.prompts",
        "input.messages",
        "input.value",
    ),
    "output_text": (
        "gen_ai.output.messages",
        "gen_ai.output.messages.",
        "llm.output_messages.",
        "gen_ai.completion.",
        "gen_ai.completion",
        "llm.completions.",
        "llm.completions",
        "llm.choices.",
        "output.messages",
        "output.value",
    ),
}
_PREFIXES: Final = [re.escape(name) for names in _SIDES.values() for name in names if name.endswith(".")]
_NUMBERED: Final = re.compile(rf"(?P<name>{'|'.join(_PREFIXES)})(?P<place>[0-9]{{1,4}})(?:\.(?P<part>.+))?")
_ByName = dict[str, list[tuple[int, str, Read]]]


class _Said(NamedTuple):
    """A side of a call: its value, and of how many attributes it was made."""

    value: Any
    values: int


def parts_of(record: Span | Log | Unreadable) -> list[Attributes]:
    """Where a record may hold content: its attributes, then those of its events."""
    match record:
        case Unreadable():
            return []
        case Span():
            return [record.attributes, *(event.attributes for event in record.events)]
        case Log():
            return [record.attributes]


def forget(parts: Sequence[Attributes]) -> None:
    """Let go of all content."""
    for each in parts:
        each.said.clear()


def values_in(record: Span | Log | Unreadable) -> int:
    """How many values of content a record holds; some events hold it in their body or under any name. A span that is
    not GenAI's holds none, whatever its attributes are called."""
    match record:
        case Unreadable():
            return 0
        case Span():
            own = record.attributes.content if record.attributes.genai else 0
            return own + sum(_values(event.name, event.attributes) for event in record.events)
        case Log():
            return _values(record.name, record.attributes)


def _values(name: str, attributes: Attributes) -> int:
    return max(attributes.content, int(name in CONTENT_EVENTS))


def put_content(draft: Draft, parts: Sequence[Attributes], *, room: int) -> None:
    """Fill the texts of a call, from the first of its parts that has them. What does not fit in ``room`` bytes as JSON
    is left out, and the call flagged."""
    said = [_by_name(part.said) for part in parts if part.said]
    if any(part.large for part in parts):
        draft.flags.append(FLAG)
    for side, names in _SIDES.items():
        found = next((one for each in said for name in names if (one := _read(each, name)) is not None), None)
        system = next((one for each in said if (one := _read(each, SYSTEM))), None) if side == "input_text" else None
        if system is not None:
            messages = None if found is None else _parsed(found.value)
            value = {"system_instructions": _parsed(system.value), "messages": messages}
            found = _Said(value, system.values + (found.values if found is not None else 0))
        if found is None:
            continue
        text = found.value if isinstance(found.value, str) else orjson.dumps(found.value).decode()
        size = len(orjson.dumps(text))
        if size > room:
            draft.flags.append(FLAG)
            continue
        room -= size
        draft.item[side] = text
        draft.stored += found.values


def _by_name(said: Mapping[str, Read]) -> _ByName:
    """What a part says, by the names of ``_SIDES``; each attribute is looked at once, however many there are."""
    found: _ByName = {}
    for key, read in said.items():
        numbered = _NUMBERED.fullmatch(key)
        if numbered is None:
            found[key] = [(0, "", read)]
        else:
            part = (numbered["part"] or "").removeprefix("message.")
            found.setdefault(numbered["name"], []).append((int(numbered["place"]), part or "content", read))
    return found


def _read(said: _ByName, name: str) -> _Said | None:
    entries = said.get(name)
    if entries is None:
        return None
    if not name.endswith("."):
        value = entries[0][2]()
        return None if value in (None, "") else _Said(value, 1)
    messages: dict[int, dict[str, Any]] = {}
    for place, part, read in entries:
        messages.setdefault(place, {})[part] = read()
    return _Said([messages[place] for place in sorted(messages)], len(entries))


def _parsed(value: Any) -> Any:
    """Messages are often JSON in a text; as values they can be looked at one by one."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value
