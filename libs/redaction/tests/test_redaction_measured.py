"""Recall and precision on the development half of Presidio's generated texts, by exact span and kind."""

import json
import os
from pathlib import Path

import pytest

from flywheel.redaction import find

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "schemas").is_dir())
DATA = Path(os.environ.get("FLYWHEEL_DATA", ROOT.parent / "shared" / "data")) / "presidio_research/generated_small.json"
KINDS = {
    "CREDIT_CARD": "credit_card",
    "PHONE_NUMBER": "phone_number",
    "EMAIL_ADDRESS": "email_address",
    "IP_ADDRESS": "ip_address",
    "IBAN_CODE": "iban_code",
    "US_SSN": "us_ssn",
    "DOMAIN_NAME": "url",
}

pytestmark = [pytest.mark.data, pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is absent")]


def test_structured_kinds_are_found_and_nothing_else() -> None:
    right = found = wanted = 0
    for row in json.loads(DATA.read_text(encoding="utf-8")):
        gold = {
            (KINDS[s["entity_type"]], s["start_position"], s["end_position"])
            for s in row["spans"]
            if s["entity_type"] in KINDS
        }
        got = {(s.kind, s.start, s.end) for s in find(row["full_text"]) if s.kind in KINDS.values()}
        right, found, wanted = right + len(gold & got), found + len(got), wanted + len(gold)
    assert wanted >= 25
    assert right / found >= 0.95
    assert right / wanted >= 0.95
