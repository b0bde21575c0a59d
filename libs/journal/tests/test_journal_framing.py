"""Frames: what is written is what is read, and a cut or damaged tail is noticed."""

from hypothesis import given
from hypothesis import strategies as st

from flywheel.journal import frame, unframe

payloads = st.lists(st.binary(max_size=60), max_size=12)


@given(payloads)
def test_what_is_framed_is_read_back(records: list[bytes]) -> None:
    buffer = b"".join(frame(record) for record in records)
    assert [payload for payload, _ in unframe(buffer)] == records


@given(payloads, st.data())
def test_any_truncation_gives_exactly_the_whole_records_before_it(records: list[bytes], data: st.DataObject) -> None:
    frames = [frame(record) for record in records]
    buffer = b"".join(frames)
    cut = data.draw(st.integers(0, len(buffer)))
    whole, end = 0, 0
    for one in frames:
        if end + len(one) > cut:
            break
        whole, end = whole + 1, end + len(one)
    assert [payload for payload, _ in unframe(buffer[:cut])] == records[:whole]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=12), st.data())
def test_a_flipped_bit_never_yields_a_wrong_record(records: list[bytes], data: st.DataObject) -> None:
    buffer = bytearray(b"".join(frame(record) for record in records))
    position = data.draw(st.integers(0, len(buffer) * 8 - 1))
    buffer[position // 8] ^= 1 << (position % 8)
    read = [payload for payload, _ in unframe(bytes(buffer))]
    assert read == records[: len(read)]
    assert len(read) < len(records)


def test_a_tail_of_zeros_is_not_a_record() -> None:
    assert [payload for payload, _ in unframe(frame(b"one") + bytes(64))] == [b"one"]
