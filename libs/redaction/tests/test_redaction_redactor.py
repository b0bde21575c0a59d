"""What becomes of a text under a policy: marks, hashes, nothing; and nothing gets through when something breaks."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.redaction import ACTIONS, KINDS, Policy, Redactor, redactor
from flywheel.redaction.rewriting import MARK, Settled, collapse

KEY = b"sixteen bytes ok"
TEXT = "I am bob@example.com, call 555-123-4567, see https://example.com"


class TestActions:
    def test_mask_names_the_kind_and_urls_stay_by_default(self) -> None:
        redacted = Redactor().text(TEXT)
        assert redacted.text == "I am [EMAIL_ADDRESS], call [PHONE_NUMBER], see https://example.com"
        assert [TEXT[s.start : s.end] for s in redacted.spans] == ["bob@example.com", "555-123-4567"]
        assert redacted.dropped is None

    def test_drop_leaves_nothing(self) -> None:
        assert Redactor(Policy("drop")).text(TEXT).text == "I am , call , see "

    def test_keep_leaves_everything_and_reports_nothing(self) -> None:
        assert Redactor(Policy("keep")).text(TEXT) == redactor.Redacted(TEXT)

    def test_a_kept_url_hides_nothing_that_is_in_it(self) -> None:
        url = "https://ann:pass1@db/?mail=bob@example.com"
        assert Redactor().text(url).text == "https://[SECRET]@db/?mail=[EMAIL_ADDRESS]"

    def test_a_hash_is_the_values_however_it_is_written(self) -> None:
        one = Redactor(Policy("hash"), key=KEY)
        hashes = {one.text(t).text for t in ("4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111")}
        assert len(hashes) == 1
        assert one.text("Bob@Example.com").text == one.text("bob@example.com").text != one.text("ann@example.com").text
        assert MARK.fullmatch(hashes.pop())

    def test_hashes_of_projects_and_keys_are_strangers(self) -> None:
        made = {
            Redactor(Policy("hash"), key=key, project=project).text("bob@example.com").text
            for key in (KEY, KEY[::-1])
            for project in ("a", "b")
        }
        assert len(made) == 4

    def test_invisible_characters_and_other_digits_hide_nothing(self) -> None:
        assert Redactor().text("b\u200bob@exa\u00admple.com ４１１１ 1111 1111\u00a01111").text == (
            "[EMAIL_ADDRESS] [CREDIT_CARD]"
        )
        assert Redactor().text("soft\u00adly").text == "soft\u00adly"

    def test_the_name_a_text_stands_under_tells(self) -> None:
        assert Redactor().text("5551234567").text == "5551234567"
        assert Redactor().text("5551234567", under="phoneNumber").text == "[PHONE_NUMBER]"
        assert Redactor().text("correct horse", under="db_password").text == "[SECRET]"
        assert Redactor().text("1234567", under="text").text == "1234567"


class TestClosed:
    def test_without_a_key_nothing_is_hashed_and_nothing_passes(self) -> None:
        for key in (None, b"short"):
            redacted = Redactor(Policy("hash"), key=key).text("hello")
            assert redacted.text is None
            assert "no key" in (redacted.dropped or "")

    def test_a_policy_that_cannot_be_read_drops_everything_and_says_where(self) -> None:
        shut = Redactor.reading('[kinds]\nemail_address = "kepe"')
        assert shut.text("hello").text is None
        assert "kinds.email_address" in (shut.text("hello").dropped or "")
        assert shut.value({"role": "user"}).value == {"[DROPPED]": "[DROPPED]"}

    def test_a_policy_that_can_be_read_works(self) -> None:
        shop = Redactor.reading('[projects.shop]\ndefault = "drop"', project="shop")
        assert shop.text("bob@example.com!").text == "!"

    def test_a_fault_of_a_finder_costs_the_text_and_is_not_quoted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(text: str) -> Any:
            raise ValueError(f"cannot read {text}")

        monkeypatch.setattr(redactor, "candidates", broken)
        redacted = Redactor().text("a secret of somebody")
        assert redacted.text is None
        assert redacted.dropped == "a finder failed: ValueError"

    def test_finds_without_end_are_no_endless_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            redactor, "candidates", lambda text: [redactor.Span("secret", len(text) - 1, len(text), "test", 1.0)]
        )
        assert "passes" in (Redactor(Policy("drop")).text("x" * 100).dropped or "")

    def test_a_text_too_long_is_dropped(self) -> None:
        assert Redactor(max_chars=3).text("four").dropped == "longer than 3 characters"


class TestNested:
    def test_chat_messages(self) -> None:
        messages = [
            {"role": "user", "content": [{"type": "text", "text": TEXT}]},
            {"role": "tool", "content": {"card": 4111111111111111, "ok": True, "score": 0.5, "none": None}},
        ]
        redacted = Redactor().value(messages)
        assert redacted.value[0]["content"][0]["text"].startswith("I am [EMAIL_ADDRESS], call")
        assert redacted.value[1]["content"] == {"card": "[CREDIT_CARD]", "ok": True, "score": 0.5, "none": None}
        assert redacted.counts == {"email_address": 1, "phone_number": 1, "credit_card": 1}
        assert redacted.dropped == ()

    def test_keys_are_redacted_and_kept_apart(self) -> None:
        redacted = Redactor().value({"ann@x.com": 1, "bob@x.com": 2, "cy@x.com": 3})
        assert redacted.value == {"[EMAIL_ADDRESS]": 1, "[EMAIL_ADDRESS][#2]": 2, "[EMAIL_ADDRESS][#3]": 3}

    def test_what_is_no_json_is_dropped_and_its_place_said(self) -> None:
        redacted = Redactor(max_chars=5).value({"a": [b"raw", "x" * 6, 10**5000], "ok": "yes"})
        assert redacted.value == {"a": ["[DROPPED]"] * 3, "ok": "yes"}
        assert redacted.dropped == (
            ("$.a[0]", "no JSON type: bytes"),
            ("$.a[1]", "longer than 5 characters"),
            ("$.a[2]", "a number too long to write"),
        )

    def test_what_is_nested_too_deep_is_dropped(self) -> None:
        deep: Any = "bob@example.com"
        for _ in range(5000):
            deep = [deep]
        redacted = Redactor().value(deep)
        assert "deeper" in redacted.dropped[0][1]


BITS = [
    "4111 1111 1111 1111",
    "555-123-4567",
    "bob@x.com",
    "call ",
    "phone ",
    "1234567",
    " ",
    "[EMAIL_ADDRESS]",
    "[EMAIL_ADD",
    "RESS]",
    "password: ",
    "key=",
    "sk-abcdef0123456789abcdef",
    "http://a:b@c.com/",
    "1",
    "-",
    "\u200b",
    "[",
    "]",
    "\x00",
    "@",
    ".com",
    "DE89 3704 0044 0532 0130 00",
    "ssn ",
    "123-45-6789",
    "account number ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "\n",
    '"',
    ": ",
    "Bearer ",
    "[#2]",
    ":aaaaaaaaaaaaaaaa]",
    "x",
    "٣",
    "+1 ",
    "(",
    ")",
    "/",
    "www.",
]
texts = st.lists(st.one_of(st.sampled_from(BITS), st.text(max_size=3)), max_size=14).map("".join)
actions = st.sampled_from(ACTIONS)
policies = st.builds(Policy, actions, st.dictionaries(st.sampled_from(KINDS), actions, max_size=5))
names = st.sampled_from(["", "password", "phone", "bob@x.com", "callMe"])


@settings(max_examples=400, deadline=None)
@given(texts, policies, names)
def test_redacting_again_changes_nothing(text: str, policy: Policy, under: str) -> None:
    one = Redactor(policy, key=KEY)
    once = one.text(text, under=under)
    assert once.text is not None
    again = one.text(once.text, under=under)
    assert (again.text, again.spans) == (once.text, ())
    nested = one.value({text: text, under: [text, {under: text}]})
    assert one.value(nested.value).value == nested.value


@settings(max_examples=400, deadline=None)
@given(texts)
def test_spans_are_places_in_the_text_as_it_came(text: str) -> None:
    redacted = Redactor(Policy("mask")).text(text)
    pieces, at = [], 0
    for span in redacted.spans:
        assert at <= span.start < span.end <= len(text)
        pieces += [text[at : span.start], f"[{span.kind.upper()}]"]
        at = span.end
    assert "".join([*pieces, text[at:]]) == redacted.text


@given(st.text(min_size=1, max_size=20), st.data())
def test_collapsing_remembers_where_everything_was(text: str, data: st.DataObject) -> None:
    cuts = sorted(set(data.draw(st.lists(st.integers(0, len(text)), max_size=6))))
    parts = [Settled(a, b, "", "\x00") for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    scan = collapse(text, parts)
    assert scan.original(0, len(scan.text)) == (0, len(text))
    for place, character in enumerate(scan.text):
        start, end = scan.original(place, place + 1)
        assert (start, end) in {(p.start, p.end) for p in parts} or text[start:end] == character
