"""The OpenAPI document and its page, made from the rules that are in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from flywheel_ingest.items import ItemRules, KindName

_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "field": {"type": "string", "description": "What is wrong: a header, body, items, kafka."},
                "message": {"type": "string"},
            },
        }
    },
}
_REPORT: Final = {
    "type": "object",
    "description": "accepted + duplicate + rejected is the number of items.",
    "properties": {
        "accepted": {"type": "integer", "description": "Acknowledged by Kafka just now."},
        "duplicate": {
            "type": "integer",
            "description": "Acknowledged before: same id, same content.",
        },
        "rejected": {"type": "integer"},
        "items": {
            "type": "array",
            "description": "One verdict for each item, in order.",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "event_id": {"type": ["string", "null"]},
                    "status": {"enum": ["accepted", "duplicate", "rejected"]},
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                        },
                    },
                },
            },
        },
    },
}
_ANSWERS: Final = {
    "200": ("Every item is acknowledged by Kafka.", "Report"),
    "207": ("Some are, some were rejected; see the items.", "Report"),
    "422": ("Every item was rejected.", "Report"),
    "400": ("The body is not a batch.", "Error"),
    "408": ("The body did not arrive in time.", "Error"),
    "413": ("The body, what it inflates to, or the batch is too large.", "Error"),
    "415": ("Not application/json, or an encoding other than gzip.", "Error"),
    "503": ("Kafka is away or too much is under way: post again after Retry-After, unchanged.", "Error"),
}


def openapi_document(rules: Mapping[KindName, ItemRules]) -> dict[str, Any]:
    """OpenAPI 3.1 of the routes that take batches."""
    schemas: dict[str, Any] = {"Error": _ERROR, "Report": _REPORT}
    paths: dict[str, Any] = {}
    for name, rule in rules.items():
        item = f"{name.capitalize()}Item"
        schemas[item] = rule.json_schema()
        schemas[f"{name.capitalize()}Batch"] = _batch(item)
        paths[rule.kind.path] = {"post": _operation(name, rule)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Flywheel ingest",
            "version": "1",
            "description": "Batches of calls, feedback and evaluations into Kafka. An answer comes only after Kafka "
            "acknowledged. Post again what got no answer or a 503: the same item is the same fact.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _batch(item: str) -> dict[str, Any]:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}}
    whole = {"type": "object", "properties": {"items": items}, "required": ["items"], "additionalProperties": False}
    return {"anyOf": [whole, items]}


def _operation(name: KindName, rule: ItemRules) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, (description, schema) in _ANSWERS.items():
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
        answers[status] = {"description": description, "content": content}
    answers["503"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name.capitalize()}Batch"}}}
    return {
        "operationId": f"post_{name}",
        "summary": f"A batch for the topic {rule.kind.topic}.",
        "requestBody": {"required": True, "content": body},
        "responses": answers,
    }


def docs_page(document: Mapping[str, Any]) -> str:
    """The document as one HTML page that loads nothing from elsewhere."""
    info = document["info"]
    return "".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            f"<title>{escape(info['title'])}</title>",
            "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
            "table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top;"
            "border-bottom:1px solid #ddd}code{font-size:.95em}</style>",
            f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>",
            '<p>The same for programs: <a href="/openapi.json">/openapi.json</a></p>',
            *_sections(document),
            "</html>",
        ]
    )


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        operation = methods["post"]
        yield f"<h2><code>POST {escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
        yield '<p><code>{"items": [ … ]}</code> or <code>[ … ]</code>, each item:</p>'
        yield "<table><tr><th>field<th>type<th>what it is</tr>"
        item = schemas[operation["operationId"].removeprefix("post_").capitalize() + "Item"]
        required = set(item.get("required", ()))
        for name, field in sorted(item["properties"].items(), key=lambda each: each[0] not in required):
            star = " <b>required</b>" if name in required else ""
            shown = escape(", ".join(_types(field)))
            yield f"<tr><td><code>{escape(name)}</code>{star}<td>{shown}<td>{escape(field.get('description', ''))}</tr>"
        yield "</table><h3>Answers</h3><table>"
        for status, answer in operation["responses"].items():
            yield f"<tr><td>{escape(status)}<td>{escape(answer['description'])}</tr>"
        yield "</table>"


def _types(field: Mapping[str, Any]) -> list[str]:
    if "anyOf" in field:
        return [shown for branch in field["anyOf"] for shown in _types(branch) if shown != "null"]
    if "enum" in field:
        return [str(symbol) for symbol in field["enum"] if str(symbol).isupper()]
    kind = str(field.get("type", "any"))
    bounds = [f"{word} {field[key]}" for key, word in _BOUNDS.items() if key in field]
    return [" ".join([kind, *bounds])]


_BOUNDS: Final = {
    "format": "",
    "minimum": "≥",
    "maximum": "≤",
    "maxLength": "of at most",
    "maxProperties": "entries at most",
}
