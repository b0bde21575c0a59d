"""How each emitter spells and counts usage: one table, applied by ``usage.py``.

An emitter is what wrote the usage object (an API, an SDK, an instrumentation), not who served the model: Claude through
an OpenAI-shaped gateway counts as OpenAI does. Paths are snake-cased and joined by dots, so that ``promptTokenCount``
and ``prompt_token_count`` are one.

Each path has a role: ``input`` and ``output`` totals; ``uncached`` and ``visible``, what is left of them; a bucket's
name without ``_tokens``; ``cache_write``, all cache writes together; ``extra_input``, input beside the input;
``total``; ``cost`` and what belongs to it; ``context:<key>``, what else changes the price. Spellings of one role must
agree; those of a role that ends in ``+`` are added up, and a 0 of one that ends in ``?`` gives way to another spelling.

Sources, as of 2026: API references of the providers; LangChain's ``UsageMetadata``; OpenTelemetry GenAI semantic
conventions 1.36 to 1.42 and the names beside them; OpenInference's semantic conventions; OpenLLMetry's
``SpanAttributes``; the extractors of genai-prices, with which a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from flywheel.pricing.emitter import Emitter
from flywheel.pricing.emitters_apis import APIS
from flywheel.pricing.emitters_sdks import SDKS

EMITTERS: Final[Mapping[str, Emitter]] = MappingProxyType({emitter.name: emitter for emitter in (*APIS, *SDKS)})
"""Every convention by the name that results record."""
