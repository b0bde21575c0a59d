"""Policies: a project's own words win, and what cannot be read is named by its field."""

import pytest

from flywheel.redaction import KINDS, STANDARD, Policy, PolicyInvalid, parse_policies

TEXT = """
default = "mask"

[kinds]
email_address = "hash"
url = "keep"

[projects.shop.kinds]
email_address = "drop"

[projects.lab]
default = "keep"
kinds = {secret = "drop"}
"""


def test_a_projects_own_words_win_over_the_files() -> None:
    book = parse_policies(TEXT)
    other, shop, lab = book.of("other"), book.of("shop"), book.of("lab")
    assert [p.action("email_address") for p in (other, shop, lab)] == ["hash", "drop", "keep"]
    assert [p.action("secret") for p in (other, shop, lab)] == ["mask", "mask", "drop"]
    assert [p.action("url") for p in (other, shop, lab)] == ["keep", "keep", "keep"]
    assert other.hashes
    assert not shop.hashes


def test_an_empty_file_masks_everything_but_urls() -> None:
    policy = parse_policies("").of("anything")
    assert {kind: policy.action(kind) for kind in KINDS} == {kind: "mask" for kind in KINDS} | {"url": "keep"}
    assert policy.kinds == STANDARD.kinds


def test_a_default_speaks_for_every_kind_it_does_not_name() -> None:
    assert parse_policies('default = "drop"').of("any") == Policy("drop")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('default = "blur"', "default"),
        ("default = true", "default"),
        ('[kinds]\nemail = "mask"', "kinds.email"),
        ("[kinds]\nsecret = 3", "kinds.secret"),
        ('kinds = "mask"', "kinds"),
        ('[projects.shop]\ndefualt = "mask"', "projects.shop.defualt"),
        ("[projects]\nshop = 1", "projects.shop"),
        ('[projects.shop.kinds]\nsecret = "none"', "projects.shop.kinds.secret"),
        ('default = "mask"\ndefault = "keep"', ""),
        ("not toml", ""),
        ("a = " + "[" * 5000, ""),
        ("#" * 1_000_001, ""),
    ],
)
def test_what_is_wrong_is_named(text: str, field: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policies(text)
    assert caught.value.field == field
