"""Structured JSON logs on stderr, one object a line, with secrets removed before anything is written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import orjson
import structlog
from pydantic import SecretBytes, SecretStr

REDACTED: Final = "[redacted]"
_SECRET_NAME: Final = re.compile(
    r"(^|_)(keys?|tokens?)(_|$)|password|passwd|secret|credential|authorization|cookie|api_?key|(^|_)dsn$"
)
_NOT_SECRET: Final = frozenset({"partition_key", "record_key", "key_schema"})
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-. ]+")
_SECRET_VALUE: Final = re.compile(
    r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"
    r"|\bsk-[A-Za-z0-9_-]{16,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret: ``api_key``, ``accessToken``, ``DB_PASSWORD``, ``Authorization`` do;
    ``partition_key``, ``keyboard`` and ``input_tokens`` do not (a plural ``tokens`` counts what a model read or
    wrote)."""
    snake = _WORD.sub("_", name).lower()
    if snake.endswith("tokens") or "tokens_" in snake or snake in _NOT_SECRET:
        return False
    return _SECRET_NAME.search(snake) is not None


def redact(value: Any, name: str = "") -> Any:
    """``value`` with secrets replaced: values of pydantic's secret types, fields named as secrets (at any depth), and
    credentials inside text (``Bearer …``, ``sk-…``, ``https://user:password@host``)."""
    if isinstance(value, SecretStr | SecretBytes) or (name and value is not None and secret_name(name)):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_VALUE.sub(REDACTED, value)
    if isinstance(value, Mapping):
        return {str(k): redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_redact_item(item) for item in value]
    return value


def _redact_item(item: Any) -> Any:
    """One item of a list; a header pair ``("authorization", "…")`` is judged by its first half."""
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str | bytes):
        name = item[0] if isinstance(item[0], str) else item[0].decode("utf-8", "replace")
        return [item[0], redact(item[1], name)]
    return redact(item)


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {name: redact(value, name) for name, value in event.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()


class _StderrHandler(logging.StreamHandler[Any]):
    """Writes to whatever ``sys.stderr`` is at the moment of writing, so that a redirected stderr is honoured."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure_logging(service: str, level: str = "INFO") -> None:
    """Send every log line of this process, also those of libraries, to stderr as JSON with ``service``, ``level``,
    ``event``, ``logger``, ``time`` (RFC 3339, UTC) and the bound ids. Call it once, first thing in ``__main__``.

    Raises ``ValueError`` for a level that does not exist.
    """
    name = level.upper()
    if name not in logging.getLevelNamesMapping():
        raise ValueError(f"log_level: {level!r} is not one of DEBUG, INFO, WARNING, ERROR, CRITICAL")

    def add_service(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return {"service": service, **event}

    handler = _StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared_processors(), structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                add_service,
                _redact_event,
                structlog.processors.JSONRenderer(serializer=_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(name)
    for noisy in ("aiokafka", "httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _shared_processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; ``logger("decide").bind(request_id=…, decision_id=…).info("decided", arm="cheap")``.

    It stands on the standard library's logger of that name, so in a process that never called ``configure_logging`` (a
    producer's, with our client inside) that process's own logging decides, and nothing goes to stdout.
    """
    bound: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    return bound


def log_context(**ids: str | int | None) -> AbstractContextManager[None]:
    """Bind ids to every line logged inside, also by code that knows nothing of them and in tasks started inside."""
    return structlog.contextvars.bound_contextvars(**ids)
