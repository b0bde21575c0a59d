"""Finds structured personal data and secrets in text, and takes them out by policy."""

from flywheel.redaction.finding import find
from flywheel.redaction.kinds import KINDS, Kind, Span
from flywheel.redaction.policy import ACTIONS, STANDARD, Action, Policy, PolicyBook, PolicyInvalid, parse_policies
from flywheel.redaction.redactor import MAX_CHARS, MIN_KEY_BYTES, Redacted, RedactedValue, Redactor

__all__ = [
    "ACTIONS",
    "KINDS",
    "MAX_CHARS",
    "MIN_KEY_BYTES",
    "STANDARD",
    "Action",
    "Kind",
    "Policy",
    "PolicyBook",
    "PolicyInvalid",
    "Redacted",
    "RedactedValue",
    "Redactor",
    "Span",
    "find",
    "parse_policies",
]
