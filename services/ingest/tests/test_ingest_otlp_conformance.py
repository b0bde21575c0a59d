"""Every row of the published table: what is sent, in protobuf and in JSON, and what it becomes.

``python services/ingest/tests/test_ingest_otlp_conformance.py`` writes the table into the page.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flywheel.events import Codec
from flywheel_ingest.core import Core
from flywheel_ingest.items import KINDS
from flywheel_ingest.otlp import json_body, protobuf
from flywheel_ingest.otlp.calls import call_id
from flywheel_ingest.otlp.intake import Taken, take
from flywheel_ingest.otlp.names import KNOWN

HERE = Path(__file__).parent
ROWS: list[dict[str, Any]] = json.loads((HERE / "otlp_conformance.json").read_text())
PAGE = HERE.parent / "OTLP.md"
BEGIN, END = "<!-- conformance table: generated -->", "<!-- end of the table -->"
NOW_US = 1_795_234_200_000_000
KIND_NAMES = ("call", "evaluation", "feedback")


def request_of(row: dict[str, Any], otlp: Any) -> Any:
    if "span" in row:
        said = dict(row["span"])
        resource, scope = said.pop("resource", None), said.pop("scope", "")
        return otlp.traces(otlp.span(**said), resource=resource, scope=scope)
    said = dict(row["log"])
    context = not said.pop("no_context", False)
    return otlp.logs(otlp.log(**said, context=context))


def taken_of(row: dict[str, Any], core: Core, otlp: Any, encoding: str, *, keep_content: bool = True) -> Taken:
    request = request_of(row, otlp)
    if encoding == "protobuf":
        read = protobuf.read_traces if "span" in row else protobuf.read_logs
        entries = read(request.SerializeToString(), max_records=9, max_record_bytes=99_999)
    else:
        entries = (json_body.read_traces if "span" in row else json_body.read_logs)(otlp.json(request), max_records=9)
    return take(core, entries, NOW_US, keep_sampled_events=False, keep_content=keep_content)


def meant(name: str, expected: Any, otlp: Any) -> Any:
    """What a row's JSON stands for."""
    if name.endswith(("cost_usd", "pool_seconds")) and expected is not None:
        return Decimal(expected)
    match expected:
        case "(the span's)":
            return call_id(otlp.trace, (1).to_bytes(8, "big"))
        case "(hash)":
            return "f" * 32
        case _:
            return expected


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize("row", ROWS, ids=[f"{row['dialect']}: {row['says']}" for row in ROWS])
def test_row(row: dict[str, Any], encoding: str, core: Core, codec: Codec, otlp: Any) -> None:
    taken = taken_of(row, core, otlp, encoding)
    becomes = row["becomes"]
    assert +taken.verdicts == Counter([becomes.get("verdict", "stored")])
    assert taken.content == becomes.get("content", 0)
    for fact in taken.facts.get("call", ()):
        texts = {name: fact.content[name] for name in ("input_text", "output_text")} if fact.content else None
        assert texts == becomes.get("said")
    assert {kind for kind, facts in taken.facts.items() if facts} == {kind for kind in KIND_NAMES if kind in becomes}
    for kind in KIND_NAMES:
        if kind not in becomes:
            continue
        (fact,) = taken.facts[kind]
        # What is compared is what a reader of the topic gets.
        event = codec.decode(codec.encode(KINDS[kind].event, fact.event)).value
        for name, expected in becomes[kind].items():
            found = sorted(event[name]) if name == "flags" else event[name]
            assert found == meant(name, expected, otlp), name
        assert "ann" not in map(str, event.values())
    if encoding == "json":
        counted = taken_of(row, core, otlp, encoding, keep_content=False)
        kept = [fact.content for facts in counted.facts.values() for fact in facts]
        assert not any(kept)
        assert counted.content >= taken.content


def test_every_name_that_is_understood_is_in_the_table() -> None:
    records = [row.get("span") or row["log"] for row in ROWS]
    parts = [part for record in records for part in (record, *record.get("events", []))]
    shown = {name for part in parts for names in ("attributes", "resource") for name in part.get(names, {})}
    unseen = KNOWN - shown
    assert unseen == set(), "a name without a row"


def test_the_page_shows_the_rows() -> None:
    assert table() in PAGE.read_text(), f"run python {Path(__file__).name}"


def table() -> str:
    """The rows in Markdown."""
    lines = ["| spelling | case | sent | becomes |", "|---|---|---|---|"]
    for row in ROWS:
        signal = "span" if "span" in row else "log"
        lines.append(
            f"| {row['dialect']} | {row['says']} | {_sent(row[signal], signal)} | {_becomes(row['becomes'])} |"
        )
    return "\n".join(lines)


def _sent(record: dict[str, Any], signal: str) -> str:
    parts = [f"{signal} `{record['name']}`"] if "name" in record else []
    parts += [f"scope `{record['scope']}`"] if "scope" in record else []
    parts += [f"log `{record['event_name']}`"] if "event_name" in record else []
    parts += [f"status {record['status']}"] if "status" in record else []
    parts += [f"resource {_pairs(record['resource'])}"] if "resource" in record else []
    parts += [_pairs(record["attributes"])]
    parts += [
        f"event `{each['name']}` {_pairs(each.get('attributes', {}))}".strip() for each in record.get("events", [])
    ]
    parts += ["sampled"] if record.get("sampled") else []
    parts += ["no span context"] if record.get("no_context") else []
    return "; ".join(part for part in parts if part)


def _becomes(becomes: dict[str, Any]) -> str:
    parts = [f"{kind}: {_pairs(becomes[kind])}" for kind in KIND_NAMES if kind in becomes]
    parts += [f"content: {_pairs(becomes['said'])}"] if "said" in becomes else []
    parts += [f"counted as `{becomes['verdict']}`, not stored"] if "verdict" in becomes else []
    parts += [f"{becomes['content']} values of content dropped"] if "content" in becomes else []
    return "; ".join(parts)


def _pairs(pairs: dict[str, Any]) -> str:
    return " ".join(f"`{name}={_value(value)}`" for name, value in pairs.items())


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[|`]", "/", text)


def write_page() -> None:
    """Put the table between its marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    write_page()
