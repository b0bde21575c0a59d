"""The fault table: which function plays which row."""

from __future__ import annotations

from typing import Final

import rows_events as events
import rows_network as network
import rows_processes as processes
import rows_stores as stores
from scene import Row

_ALL: Final = (
    Row(1, "broker restarted", processes.broker_restarted),
    Row(2, "broker killed with -9", processes.broker_killed, redelivers=True),
    Row(3, "consumers killed with -9 in a batch", processes.consumers_killed, redelivers=True),
    Row(4, "a member freezes while another takes over", processes.zombie, redelivers=True),
    Row(5, "members come and go", processes.rebalance_storm, redelivers=True),
    Row(6, "duplicates", stores.duplicates, resend=0.1),
    Row(7, "out of order and late", events.out_of_order),
    Row(8, "poison", stores.poison),
    Row(9, "dead-letter topic not writable", stores.letters_away, proxied=True),
    Row(10, "schemas change", events.schemas_change),
    Row(11, "ClickHouse away, slow, a reply lost", stores.store_away),
    Row(12, "Triton down, slow, wrong shape", why_not="there is no inference runner yet"),
    Row(13, "clocks", events.clocks, environ={"FLYWHEEL_GRACE_S": "10800"}),
    Row(14, "disk full", network.disk_full),
    Row(15, "slow consumer", network.slow_consumer),
    Row(16, "network: slow, half open, cut", network.network, proxied=True, redelivers=True),
    Row(17, "transaction leak", why_not="no Kafka transactions are used"),
    Row(18, "restart from nothing", processes.restarted_from_nothing),
    Row(19, "leaders killed, three brokers", processes.leaders_killed, brokers=3),
)
ROWS: Final = {row.number: row for row in _ALL}
