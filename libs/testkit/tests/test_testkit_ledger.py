"""The ledger finds what is lost, doubled or foreign, and nothing else."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from flywheel.testkit import Ledger

IDS = st.lists(st.sampled_from("abcdefgh"), max_size=12)


def test_it_names_what_is_lost_doubled_and_foreign() -> None:
    ledger = Ledger()
    ledger.sent("calls", ["a", "b", "c"])
    ledger.seen("calls", ["a", "a", "x", "c"])
    balance = ledger.balance("calls")
    assert (balance.lost, balance.duplicated, balance.foreign) == (("b",), ("a",), ("x",))
    assert not balance.even
    assert str(balance) == "calls: sent 3, arrived 4, 1 lost (first b), 1 twice or more (first a), 1 not ours (first x)"


def test_an_id_sent_again_by_a_retry_has_to_arrive_once() -> None:
    ledger = Ledger()
    ledger.sent("calls", ["a"])
    ledger.sent("calls", ["a"])
    ledger.seen("calls", ["a"])
    assert ledger.balance("calls").even


def test_every_place_that_was_named_is_accounted_for() -> None:
    ledger = Ledger()
    ledger.sent("b", ["1"])
    ledger.seen("a", ["2"])
    assert [str(b) for b in ledger.balances()] == [
        "a: sent 0, arrived 1, 1 not ours (first 2)",
        "b: sent 1, arrived 0, 1 lost (first 1)",
    ]


@given(sent=IDS, seen=IDS)
def test_even_means_the_same_ids_once_each(sent: list[str], seen: list[str]) -> None:
    ledger = Ledger()
    ledger.sent("t", sent)
    ledger.seen("t", seen)
    assert ledger.balance("t").even == (Counter(set(sent)) == Counter(seen))


def test_an_order_changed_within_a_key_is_found_and_one_across_keys_is_none() -> None:
    ledger = Ledger()
    ledger.sent("calls", ["a1", "a2", "a3"], key="a")
    ledger.sent("calls", ["b1", "b2"], key="b")
    ledger.seen("calls", ["b1", "a1", "a3", "a2", "b2"])
    balance = ledger.balance("calls")
    assert balance.reordered == ("a",)
    assert not balance.even
    assert str(balance) == "calls: sent 5, arrived 5, 1 keys out of order (first a)"


def test_the_first_arrival_counts_and_what_is_lost_is_not_out_of_order() -> None:
    ledger = Ledger()
    ledger.sent("calls", ["a1", "a2", "a3"], key="a")
    ledger.seen("calls", ["a1", "a3", "a1"])
    balance = ledger.balance("calls")
    assert (balance.lost, balance.duplicated, balance.reordered) == (("a2",), ("a1",), ())


def test_an_id_sent_again_keeps_its_first_place_in_the_order() -> None:
    ledger = Ledger()
    ledger.sent("calls", ["a1"], key="a")
    ledger.sent("calls", ["a2", "a1"], key="a")
    ledger.seen("calls", ["a1", "a2"])
    assert ledger.balance("calls").even


@given(sent=IDS, seen=IDS)
def test_order_is_kept_exactly_when_what_arrived_stands_as_it_was_sent(sent: list[str], seen: list[str]) -> None:
    ledger = Ledger()
    ledger.sent("t", sent, key="k")
    ledger.seen("t", seen)
    ours = list(dict.fromkeys(sent))
    arrived = [found for found in dict.fromkeys(seen) if found in ours]
    assert (ledger.balance("t").reordered == ()) == (arrived == [one for one in ours if one in arrived])
