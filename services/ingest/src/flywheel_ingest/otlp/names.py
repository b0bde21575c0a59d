"""Which attribute says what: every spelling that is understood, newest first.

Sources: OpenTelemetry semantic conventions v1.28 to v1.42 and semantic-conventions-genai (2026), OpenLLMetry's
``semconv_ai``, OpenInference's ``semconv.trace``, OpenLIT, and Sentry's AI monitoring. Each
is a row of the table in the service's page and a test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from flywheel.pricing import EMITTERS

OPERATION: Final = "gen_ai.operation.name"
REQUEST_TYPE: Final = "llm.request.type"
OPENINFERENCE_KIND: Final = "openinference.span.kind"
TRACELOOP_KIND: Final = "traceloop.span.kind"
ANSWERED_MODEL: Final = "llm.model_name"
"""OpenInference's older name of the model: what answered where it is known, else what was asked for."""
INVOCATION_PARAMETERS: Final = ("llm.invocation_parameters", "embedding.invocation_parameters")
_ASSOCIATION: Final = "traceloop.association.properties."

TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "request_model": (
        "gen_ai.request.model",
        "llm.request.model_name",
        "llm.request.model",
        "llm.model_name",
        "embedding.model_name",
    ),
    "response_model": ("gen_ai.response.model", "llm.response.model_name", "llm.response.model"),
    "response_id": ("gen_ai.response.id",),
    "conversation_id": (
        "gen_ai.conversation.id",
        "session.id",
        "gen_ai.session.id",
        f"{_ASSOCIATION}session_id",
        f"{_ASSOCIATION}thread_id",
    ),
    "user": ("user.id", "enduser.id", "gen_ai.user.id", "gen_ai.user", "llm.user", f"{_ASSOCIATION}user_id"),
    "prompt_name": ("gen_ai.prompt.name", "flywheel.prompt_name", "traceloop.prompt.key", "prompt.id"),
    "prompt_version": ("flywheel.prompt_version", "traceloop.prompt.version", "llm.prompt_template.version"),
    "request_id": ("flywheel.request_id",),
    "project": ("flywheel.project", "openinference.project.name"),
    "feature": ("flywheel.feature",),
    "team": ("flywheel.team",),
    "user_hash": ("flywheel.user_hash",),
    "decision_id": ("flywheel.decision_id",),
    "policy": ("flywheel.policy",),
    "variant": ("flywheel.variant",),
    "app": ("flywheel.app", "service.name"),
    "environment": ("flywheel.environment", "deployment.environment.name", "deployment.environment"),
}
"""Texts of a call. ``user`` is hashed by the core and never written."""

NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "temperature": ("gen_ai.request.temperature", "llm.temperature"),
    "top_p": ("gen_ai.request.top_p", "llm.top_p"),
    "propensity": ("flywheel.propensity",),
}
INTEGERS: Final[Mapping[str, tuple[str, ...]]] = {
    "max_tokens": ("gen_ai.request.max_tokens", "llm.request.max_tokens"),
    "policy_version": ("flywheel.policy_version",),
    "attempt": ("flywheel.attempt",),
}
BOOLEANS: Final[Mapping[str, tuple[str, ...]]] = {
    "streaming": ("gen_ai.request.stream", "gen_ai.request.is_stream", "gen_ai.is_streaming", "llm.is_streaming"),
    "shadow": ("flywheel.shadow",),
}
POOL_SECONDS: Final = ("flywheel.pool_seconds",)
SHARE: Final = ("flywheel.share",)
"""Who pays which part, as JSON text: ``{"search": 0.25, "support": 0.75}``."""
PARAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "top_k": ("gen_ai.request.top_k", "llm.top_k"),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", "llm.frequency_penalty"),
    "presence_penalty": ("gen_ai.request.presence_penalty", "llm.presence_penalty"),
    "seed": ("gen_ai.request.seed", "gen_ai.openai.request.seed"),
    "choice_count": ("gen_ai.request.choice.count",),
    "output_type": ("gen_ai.output.type", "gen_ai.openai.request.response_format"),
    "service_tier": (
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
        "openai.request.service_tier",
        "gen_ai.openai.request.service_tier",
    ),
    "dimensions": ("gen_ai.embeddings.dimension.count",),
}
"""Further parameters of the request; the tier that answered goes before the one that was asked for."""

LABELS: Final = (
    "gen_ai.agent.name",
    "gen_ai.agent.id",
    "gen_ai.agent.version",
    "gen_ai.workflow.name",
    "traceloop.workflow.name",
    "traceloop.entity.name",
    "server.address",
)
"""Short names that become free attributes of the call under their own name."""

USAGE: Final[Mapping[str, str]] = {
    name: role for emitter in ("openllmetry", "openinference") for name, role in EMITTERS[emitter].fields.items()
}
"""Attributes that count tokens and what each counts, as the pricing library declares them; those of OpenLLMetry hold
OpenTelemetry's, Sentry's and pydantic-ai's."""
USAGE_ALSO: Final[Mapping[str, str]] = {
    "cache_creation_input_tokens": "gen_ai.usage.cache_write.input_tokens",
    "llm.token_count.prompt_details.cache_input": "llm.token_count.prompt_details.cache_read",
}
"""Names outside of it, and what they stand for where nothing else tells that."""
_USAGE_PREFIXES: Final = ("gen_ai.usage.", "llm.usage.", "llm.token_count.")
_NOT_USAGE: Final = ("gen_ai.usage.cost",)
USAGE_CONVENTION: Final = "flywheel.usage_convention"
COST: Final = ("gen_ai.usage.cost.amount", "gen_ai.usage.cost.currency", "gen_ai.usage.cost.source")
PROVIDER: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
ERROR: Final = ("error.type", "exception.type")
FINISH: Final = (
    "gen_ai.response.finish_reasons",
    "gen_ai.response.finish_reason",
    "llm.finish_reason",
    "llm.response.finish_reason",
    "llm.response.stop_reason",
    "anthropic.message.stop_reason",
    "gen_ai.completion.0.finish_reason",
)
FIRST_TOKEN_S: Final = (
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.server.time_to_first_token",
    "gen_ai.server.ttft",
    "$ai_time_to_first_token",
)
FIRST_TOKEN_MS: Final = ("ttft_ms",)
FIRST_TOKEN_AT: Final = ("langfuse.observation.completion_start_time",)
FIRST_TOKEN_EVENTS: Final = frozenset(
    {"First Token Stream Event", "llm.content.completion.chunk", "gen_ai.content.completion.chunk"}
)

EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
CALL_EVENT: Final = "gen_ai.client.inference.operation.details"
FEEDBACK_EVENT: Final = "flywheel.feedback"
EVENT_NAME: Final = "event.name"
EVALUATION_NAME: Final = ("gen_ai.evaluation.name",)
EVALUATION_SCORE: Final = ("gen_ai.evaluation.score.value", "gen_ai.evaluation.score")
EVALUATION_TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "label": ("gen_ai.evaluation.score.label",),
    "evaluator_version": ("flywheel.evaluation.version",),
    "judge_model": ("flywheel.evaluation.judge_model",),
    "rubric_version": ("flywheel.evaluation.rubric_version",),
}
EVALUATION_KIND: Final = ("flywheel.evaluation.kind",)
EVALUATION_NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "sample_prob": ("flywheel.evaluation.sample_prob",),
    "golden_score": ("flywheel.evaluation.golden_score",),
    "judge_cost_usd": ("flywheel.evaluation.judge_cost_usd",),
}
FEEDBACK_TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "kind": ("flywheel.feedback.kind",),
    "label": ("flywheel.feedback.label",),
    "source": ("flywheel.feedback.source",),
}
EVALUATION_EXPLANATION: Final = ("gen_ai.evaluation.explanation",)
FEEDBACK_COMMENT: Final = ("flywheel.feedback.comment",)
FEEDBACK_VALUE: Final = ("flywheel.feedback.value",)
WHO: Final = ("project", "environment", "app", "feature", "team", "user", "user_hash", "decision_id")
"""The part of ``TEXTS`` that evaluations and feedback have too."""

OPERATIONS: Final[Mapping[str, str]] = {
    "chat": "CHAT",
    "completion": "TEXT_COMPLETION",
    "text_completion": "TEXT_COMPLETION",
    "generate_content": "GENERATE_CONTENT",
    "embeddings": "EMBEDDINGS",
    "embedding": "EMBEDDINGS",
}
"""Operations that are a call of a model, by ``gen_ai.operation.name`` and by OpenLLMetry's ``llm.request.type``."""
OPENINFERENCE_CALLS: Final[Mapping[str, str]] = {"LLM": "CHAT", "EMBEDDING": "EMBEDDINGS"}

# Lower case. gen_ai.system of v1.36 and before, OpenLLMetry's and OpenInference's names; what is not here is kept.
PROVIDERS: Final[Mapping[str, str]] = {
    "az.ai.openai": "azure.ai.openai",
    "az.ai.inference": "azure.ai.inference",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google_genai": "gcp.gen_ai",
    "google generative ai": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
    "x-ai": "x_ai",
    "watsonx": "ibm.watsonx.ai",
    "ibm": "ibm.watsonx.ai",
    "moonshot": "moonshot_ai",
}

CONTENT_EVENTS: Final = frozenset(
    {
        "gen_ai.content.prompt",
        "gen_ai.content.completion",
        "gen_ai.system.message",
        "gen_ai.user.message",
        "gen_ai.assistant.message",
        "gen_ai.tool.message",
        "gen_ai.choice",
    }
)
_CONTENT: Final = frozenset(
    {
        "gen_ai.prompt",
        "gen_ai.completion",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.retrieval.documents",
        "gen_ai.retrieval.query.text",
        "gen_ai.evaluation.explanation",
        "gen_ai.request.stop_sequences",
        "flywheel.feedback.comment",
        "input.value",
        "output.value",
        "input.messages",
        "output.messages",
        "tool.parameters",
        "llm.prompts",
        "llm.completions",
        "llm.tools",
        "llm.function_call",
        "llm.prompt_template.template",
        "llm.prompt_template.variables",
        "traceloop.entity.input",
        "traceloop.entity.output",
    }
)
_CONTENT_PREFIXES: Final = (
    "gen_ai.prompt.",
    "gen_ai.completion.",
    "gen_ai.input.messages.",
    "gen_ai.output.messages.",
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.prompts.",
    "llm.completions.",
    "llm.choices.",
    "llm.tools.",
    "llm.request.functions.",
    "embedding.embeddings.",
    "retrieval.documents.",
    "reranker.",
)
_TABLES: Final = (
    TEXTS,
    NUMBERS,
    INTEGERS,
    BOOLEANS,
    PARAMS,
    EVALUATION_TEXTS,
    EVALUATION_NUMBERS,
    FEEDBACK_TEXTS,
)
KNOWN: Final = frozenset(
    {
        *(key for table in _TABLES for keys in table.values() for key in keys),
        *(*USAGE, *USAGE_ALSO),
        *(OPERATION, REQUEST_TYPE, OPENINFERENCE_KIND, TRACELOOP_KIND, USAGE_CONVENTION, EVENT_NAME),
        *(*INVOCATION_PARAMETERS, *POOL_SECONDS, *SHARE, *LABELS, *COST, *PROVIDER, *ERROR, *FINISH),
        *(*FIRST_TOKEN_S, *FIRST_TOKEN_MS, *FIRST_TOKEN_AT),
        *(*EVALUATION_NAME, *EVALUATION_SCORE, *EVALUATION_KIND, *FEEDBACK_VALUE),
    }
)
_OPINION_PREFIXES: Final = ("evaluations.", "annotations.", "trace.evaluations.", "trace.annotations.")
_OPINION: Final = re.compile(
    r"(?P<which>(?:trace\.)?(?:evaluations|annotations)\.[0-9]{1,2})\.(?:evaluation|annotation)\."
    r"(?P<part>name|score|label|annotator_kind)",
    re.ASCII,
)
_GENAI: Final = frozenset(
    {REQUEST_TYPE, OPENINFERENCE_KIND, TRACELOOP_KIND, "llm.model_name", "llm.token_count.prompt"}
)


class Meaning(NamedTuple):
    """What an attribute is to the mapping: ``known`` it is looked at, ``content`` it holds what was said to a model or
    by it, ``genai`` it makes its span one of a GenAI instrumentation."""

    known: bool
    content: bool
    genai: bool


@lru_cache(maxsize=4096)
def meaning(key: str) -> Meaning:
    """What an attribute of this name is."""
    known = key in KNOWN or is_usage(key) or opinion_key(key) is not None
    content = not known and (
        key in _CONTENT
        or key.startswith(_CONTENT_PREFIXES)
        or (key.startswith(_OPINION_PREFIXES) and key.endswith(".explanation"))
    )
    return Meaning(known, content, key in _GENAI or key.startswith("gen_ai."))


def is_usage(key: str) -> bool:
    """Whether an attribute belongs to the raw usage object, also where nobody knows what it counts: then there is no
    price, rather than one that leaves it out."""
    return key.startswith(_USAGE_PREFIXES) and not key.startswith(_NOT_USAGE) and key not in USAGE_ALSO


def opinion_key(key: str) -> tuple[str, str] | None:
    """Which of OpenInference's numbered opinions an attribute belongs to, and which part of it it is.

    ``evaluations.0.evaluation.score`` is ``("evaluations.0", "score")``.
    """
    if not key.startswith(_OPINION_PREFIXES):
        return None
    found = _OPINION.fullmatch(key)
    return None if found is None else (found["which"], found["part"])
