"""Check digits do what they are for: a changed digit is seen."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flywheel.redaction.checks import base58check, bech32, luhn, mod11_2, mod11_10, mod97, verhoeff
from flywheel.redaction.national import scheme_of

KNOWN = {
    luhn: "4111111111111111",
    mod97: "GB82WEST12345698765432",
    mod11_10: "86095742719",
    mod11_2: "11010519491231002X",
    verhoeff: "234123412346",
}


@pytest.mark.parametrize("check", KNOWN, ids=lambda check: check.__name__)
def test_one_digit_changed_is_seen(check) -> None:  # type: ignore[no-untyped-def]
    number = KNOWN[check]
    assert check(number)
    for place, digit in enumerate(number):
        if digit.isdigit():
            for other in set("0123456789") - {digit}:
                assert not check(number[:place] + other + number[place + 1 :])


@given(st.text("0123456789", min_size=1, max_size=18))
def test_every_number_has_exactly_one_luhn_digit(body: str) -> None:
    assert sum(luhn(body + digit) for digit in "0123456789") == 1


@given(st.text("0123456789", min_size=4, max_size=11), st.integers(0, 9))
def test_verhoeff_sees_neighbours_that_changed_places(body: str, place: int) -> None:
    number = next(body + digit for digit in "0123456789" if verhoeff(body + digit))
    place %= len(number) - 1
    assume(number[place] != number[place + 1])
    assert not verhoeff(number[:place] + number[place + 1] + number[place] + number[place + 2 :])


def test_addresses_of_coins() -> None:
    assert base58check("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa")
    assert not base58check("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb")
    assert not base58check("0OIl")
    assert not base58check("z" * 36)
    assert bech32("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")
    assert not bech32("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5")
    assert not bech32("bc1b")


@given(st.text("0123456789", min_size=9, max_size=18), st.booleans())
def test_no_number_breaks_a_scheme(digits: str, told: bool) -> None:
    assert scheme_of(digits, (len(digits),), "", told) in {None} | {
        "us_itin", "ca_sin", "nl_bsn", "au_tfn", "se_personnummer", "uk_nhs", "dk_cpr", "br_cpf", "no_fodselsnummer",
        "pl_pesel", "be_rrn", "tr_kimlik", "de_steuer_id", "in_aadhaar", "kr_rrn", "za_id", "br_cnpj", "fr_nir",
        "cn_resident_id",
    }  # fmt: skip


def test_a_weak_check_needs_a_word_or_the_schemes_own_groups() -> None:
    assert scheme_of("234123412346", (12,), "", told=False) is None
    assert scheme_of("234123412346", (12,), "", told=True) == "in_aadhaar"
    assert scheme_of("234123412346", (4, 4, 4), "  ", told=False) == "in_aadhaar"
