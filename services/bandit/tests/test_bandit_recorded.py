"""What ClickHouse's text of a field becomes again: the value, and its very text, that the event had."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

import pytest

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel_bandit.core.join import call_part
from flywheel_bandit.recorded import NotReadable, Recorded, _columns

CODEC = Codec(LocalRegistry.load())


def read_back(text: str | None) -> Decimal | None:
    column = next(c for c in _columns(CODEC, "llm_call") if c.name == "cost_usd")
    assert column.back is not None
    return None if text is None else column.back(text)


@pytest.mark.parametrize(
    "text", ["0", "0.0042", "1", "0.000000000001", "9999999999999999.999999999999", "123.4", "0.000001"]
)
def test_money_has_the_digits_it_had_in_the_event(text: str) -> None:
    value = {**examples("llm_call")["priced-chat"], "cost_usd": Decimal(text)}
    sent = CODEC.decode(CODEC.encode("llm_call", value)).value
    again = {**sent, "cost_usd": read_back(text)}
    assert call_part(again) == call_part(sent)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, 1.0, 5e-324, 1.7976931348623157e308])
def test_doubles_come_back_bit_for_bit(value: float) -> None:
    column = next(c for c in _columns(CODEC, "feedback") if c.name == "value")
    assert column.back is not None and column.sql == "reinterpretAsInt64(value)"
    found = column.back(struct.unpack("<q", struct.pack("<d", value))[0])
    assert found == value and math.copysign(1, found) == math.copysign(1, value)


@pytest.mark.parametrize("url", ["127.0.0.1:8123", "", "tcp://host:9000"])
def test_an_address_that_is_none_is_refused_with_what_to_give(url: str) -> None:
    with pytest.raises(NotReadable, match="give http://host:port"):
        Recorded(url, CODEC)
