"""What the purse asks for and when, step by step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from flywheel.budget.leases import CLOSING_SEQ, Lease, LeaseRequest, Left
from flywheel.budget.purse import Purse

BUDGET = "p/team"


def lease(request: LeaseRequest, granted: int, **more: Any) -> Lease:
    """An answer to a request."""
    return Lease(request.account, request.seq, granted, "w", 9, 3600.0, 30.0)._replace(**more)


def opened(purse: Purse, room: int, *, now_s: float = 0.0, need: int = 10) -> LeaseRequest:
    """Open an account with some room."""
    purse.want([BUDGET], need, now_s)
    (request,) = purse.requests(now_s)
    assert purse.apply(lease(request, room), now_s)
    return request


def test_a_call_that_waits_opens_an_account_and_is_paid_from_it() -> None:
    purse = Purse("life")
    assert purse.reserve([BUDGET], 10, 0.0) is None
    purse.want([BUDGET], 10, 0.0)
    purse.want([BUDGET], 7, 0.0)
    (request,) = purse.requests(0.0)
    assert request == LeaseRequest("life-1", BUDGET, "", 1, 0, 80, 7, False)
    assert purse.requests(0.5) == purse.sweep(0.9) == []
    assert purse.apply(lease(request, 17, reason="partial"), 1.0)
    made = purse.reserve([BUDGET], 10, 1.0)
    assert made is not None
    assert made[0] == (BUDGET, "w", "life-1", 10, 10)
    assert purse.reserve([BUDGET], 8, 1.0) is None
    assert purse.lacking([BUDGET, "p/org"], 7, 1.0) == ["p/org"]


def test_a_request_is_repeated_as_it_was_until_it_is_answered() -> None:
    purse = Purse("life", resend_s=1.0)
    purse.want([BUDGET], 10, 0.0)
    (request,) = purse.requests(0.0)
    assert [purse.sweep(at_s) for at_s in (0.5, 1.0, 2.0, 3.0)] == [[], [request], [], [request]]
    purse.unsent([request])
    assert purse.sweep(3.1) == [request]
    assert purse.apply(lease(request, 10), 3.2)


def test_money_is_asked_for_before_half_of_it_is_gone() -> None:
    purse, now_s, limit = Purse("life"), 0.0, 100
    request = opened(purse, limit)
    waits = asked = 0
    for step in range(4000):  # 100 picodollars a second, in calls of 1
        now_s += 0.01
        if purse.reserve([BUDGET], 1, now_s) is None:
            waits += 1
            purse.want([BUDGET], 1, now_s)
        found = purse.requests(now_s) + (purse.sweep(now_s) if step % 25 == 0 else [])
        if found:
            asked += 1
            (request,) = found
            limit = request.limit_wanted_pico
        elif step % 10 == 0:  # answered up to a tenth of a second later
            purse.apply(lease(request, limit), now_s)
    assert waits == 0
    assert 250 <= purse.room_pico([BUDGET], now_s) <= 550  # 2.5 to 5 seconds' worth
    assert asked < 40


@pytest.mark.parametrize("scarce", [False, True])
def test_what_lies_idle_is_given_back_and_not_used_meanwhile(scarce: bool) -> None:
    purse = Purse("life")
    purse.want([BUDGET], 10, 0.0)
    (first,) = purse.requests(0.0)
    assert purse.apply(lease(first, 1000, scarce=scarce), 0.0)
    assert purse.reserve([BUDGET], 10, 0.0) is not None
    found: list[LeaseRequest] = []
    now_s = 0.0
    while not found:
        now_s += 0.25
        found = purse.sweep(now_s)
    assert (now_s <= 2.0) == scarce
    assert now_s < 90
    (back,) = found
    assert (back.seq, back.reserved_pico, back.need_pico, back.closing) == (2, 10, 0, False)
    assert back.limit_wanted_pico < 1000
    room = back.limit_wanted_pico - 10
    assert purse.room_pico([BUDGET], now_s) == room  # at once, not only when it is answered
    assert not purse.apply(lease(first, 1000), now_s)  # late: an older answer
    assert purse.room_pico([BUDGET], now_s) == room
    assert purse.apply(lease(back, back.limit_wanted_pico), now_s)
    assert purse.room_pico([BUDGET], now_s) == room


def test_an_account_ends_with_its_window_by_this_clock_and_another_opens() -> None:
    purse = Purse("life")
    purse.want([BUDGET], 10, 0.0)
    (request,) = purse.requests(0.0)
    assert purse.apply(lease(request, 100, lasts_s=60.0), 30.0)  # reckoned from when it was asked
    assert purse.reserve([BUDGET], 10, 59.9) is not None
    assert purse.reserve([BUDGET], 10, 60.0) is None
    purse.want([BUDGET], 10, 60.0)
    closing, opening = sorted(purse.requests(60.0), key=lambda each: each.account)
    assert (closing.account, closing.seq, closing.reserved_pico, closing.closing) == ("life-1", CLOSING_SEQ, 10, True)
    assert (opening.account, opening.window) == ("life-2", "")
    assert purse.closing == 1
    assert purse.apply(lease(closing, 10, closed=True), 61.0)
    assert (purse.closing, purse.holds("life-1"), purse.holds("life-2")) == (0, False, True)


def test_the_next_window_is_opened_before_this_one_ends() -> None:
    purse = Purse("life")
    purse.want([BUDGET], 10, 0.0)
    (request,) = purse.requests(0.0)
    assert purse.apply(lease(request, 100, lasts_s=60.0, next_window="w2"), 0.0)
    assert [each.account for at_s in (20.0, 40.0) for each in purse.sweep(at_s)] == []
    assert purse.reserve([BUDGET], 10, 49.0) is not None
    (ahead,) = [each for each in purse.sweep(51.0) if each.account == "life-2"]
    assert (ahead.window, ahead.seq, ahead.need_pico) == ("w2", 1, 0)
    assert ahead.limit_wanted_pico >= 10
    assert purse.apply(lease(ahead, 50, window="w2", lasts_s=3609.0), 51.1)
    (last,) = purse.reserve([BUDGET], 10, 59.9) or ()
    (first,) = purse.reserve([BUDGET], 10, 60.0) or ()
    assert (last.account, first.account, first.window) == ("life-1", "life-2", "w2")
    assert [(each.account, each.closing) for each in purse.requests(60.0)] == [("life-1", True)]
    assert purse.closing == 1


@pytest.mark.parametrize("slept_s", [0.0, 5000.0])
def test_no_account_outlives_its_window(slept_s: float) -> None:
    purse = Purse("life")
    purse.want([BUDGET], 10, 0.0)
    (request,) = purse.requests(0.0)
    assert purse.apply(lease(request, 100, lasts_s=60.0, next_window="w2"), 0.0)
    assert purse.reserve([BUDGET], 10, 49.0) is not None
    (ahead,) = [each for each in purse.sweep(51.0) if each.account == "life-2"]
    assert purse.apply(lease(ahead, 50, window="w2", lasts_s=3609.0), 51.1)
    if slept_s:  # past the end of the next window too
        assert purse.reserve([BUDGET], 10, 60.0 + slept_s) is None
    else:  # by the guard's clock this window is over already
        assert purse.apply(lease(request, 100, seq=purse._open[BUDGET].seq, closed=True, reason="window_over"), 52.0)
        (made,) = purse.reserve([BUDGET], 10, 52.0) or ()
        assert made.window == "w2"
    found = purse.requests(61.0 + slept_s)
    closed = ["life-1", "life-2"] if slept_s else ["life-1"]
    assert sorted(each.account for each in found if each.closing) == closed


def test_the_larger_of_two_answers_to_one_request_holds() -> None:
    purse = Purse("life")
    request = opened(purse, 5)
    assert purse.apply(lease(request, 10), 1.0)  # granted later, when others gave back
    assert purse.apply(lease(request, 5), 2.0)  # the first answer once more
    assert purse.room_pico([BUDGET], 2.0) == 10


def test_a_refusal_is_known_for_a_while_and_asked_about_ever_less() -> None:
    purse = Purse("life")
    purse.want([BUDGET], 10, 0.0)
    (request,) = purse.requests(0.0)
    assert not purse.standing(BUDGET, 0.0).exhausted
    purse.apply(lease(request, 0, exhausted=True), 0.0)
    assert purse.standing(BUDGET, 1.0) == (True, 9)
    asked_s = []
    for step in range(1, 1000):
        now_s = step / 100
        purse.want([BUDGET], 10, now_s)
        for again in purse.requests(now_s):
            asked_s.append(now_s)
            purse.apply(lease(again, 0, exhausted=True), now_s)
    gaps = [later - earlier for earlier, later in pairwise(asked_s)]
    assert 8 <= len(asked_s) <= 15
    assert max(gaps) < 1.1
    assert not purse.standing(BUDGET, 20.0).exhausted


def test_a_life_that_is_over_is_closed_by_the_next() -> None:
    purse = Purse("new")
    left = [Left("old-1", BUDGET, 70), Left("old-2", "p/org", 0)]
    purse.inherit(left, 0.0)
    purse.inherit(left, 0.0)
    found = purse.requests(0.0)
    assert found == [
        LeaseRequest("old-1", BUDGET, "", CLOSING_SEQ, 70, 70, 0, True),
        LeaseRequest("old-2", "p/org", "", CLOSING_SEQ, 0, 0, 0, True),
    ]
    assert purse.room_pico([BUDGET], 0.0) == 0
    assert purse.apply(lease(found[0], 70, closed=True), 1.0)
    assert (purse.holds("old-1"), purse.holds("old-2"), purse.closing) == (False, True, 1)


def test_at_the_end_everything_is_given_back_and_nothing_is_opened() -> None:
    purse = Purse("life")
    opened(purse, 100)
    purse.reserve([BUDGET], 10, 0.0)
    purse.close_all()
    assert purse.reserve([BUDGET], 10, 0.0) is None
    purse.want([BUDGET], 10, 0.0)
    (closing,) = purse.requests(0.0)
    assert (closing.reserved_pico, closing.limit_wanted_pico, closing.closing) == (10, 10, True)


def test_what_a_call_went_without_is_there_next_time() -> None:
    purse = Purse("life")
    opened(purse, 10)
    purse.wish([BUDGET, "p/org"], 40, 1.0)
    (request,) = purse.requests(1.0)
    assert (request.need_pico, request.limit_wanted_pico) == (0, 80)


def test_where_money_is_short_one_call_leaves_some_for_others() -> None:
    purse = Purse("life")
    opened(purse, 80)  # all that was asked for
    assert purse.fair_pico([BUDGET], 0.0) == 80
    purse.wish([BUDGET], 400, 0.0)
    (request,) = purse.requests(0.0)
    purse.apply(lease(request, 160), 0.0)
    assert purse.fair_pico([BUDGET], 0.0) == 20


@pytest.mark.parametrize("scarce", [True, False])
def test_money_is_short_while_the_guard_wants_some_back(scarce: bool) -> None:
    purse = Purse("life")
    purse.apply(lease(opened(purse, 80), 80, scarce=scarce), 0.0)
    assert purse.fair_pico([BUDGET], 0.0) == (10 if scarce else 80)


def test_an_account_the_guard_closed_takes_no_more() -> None:
    purse = Purse("life")
    request = opened(purse, 100)
    assert purse.apply(lease(request, 100, closed=True, reason="ended"), 1.0)
    assert purse.room_pico([BUDGET], 1.0) == 0


def test_only_the_last_reservation_can_be_cancelled() -> None:
    purse = Purse("life")
    opened(purse, 100)
    first, second = purse.reserve([BUDGET], 10, 0.0), purse.reserve([BUDGET], 20, 0.0)
    assert first is not None
    assert second is not None
    with pytest.raises(ValueError, match="life-1"):
        purse.cancel(first)
    purse.cancel(second)
    purse.cancel(first)
    assert purse.room_pico([BUDGET], 0.0) == 100
