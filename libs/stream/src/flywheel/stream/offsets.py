"""Where to read on."""

from __future__ import annotations

from flywheel.observe import logger
from flywheel.stream.errors import Fatal
from flywheel.stream.types import TopicPartition

log = logger("stream.offsets")


def resume_at(name: str, partition: TopicPartition, *, done: int | None, begin: int, end: int) -> int:
    """The offset to read next, of a partition that holds ``begin`` up to ``end`` and is done with up to ``done``.

    Raises:
        Fatal: more is done than there is. Going on would skip, without a word, whatever comes next.
    """
    place = f"{partition.topic}/{partition.partition}"
    if not done:
        return begin
    if done > end:
        raise Fatal(
            f"{place} ends at {end}, but {name} has read it up to {done}: the topic was made anew or lost records. "
            f"Bring the log back, or remove what {name} keeps and let it start over."
        )
    if done < begin:
        log.error("records_expired", partition=place, lost=begin - done)
    return max(done, begin)
