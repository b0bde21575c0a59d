"""What is found, and what only looks like it: each example is a text with the finds expected in it."""

import pytest

from flywheel.redaction import KINDS, Span, find
from flywheel.redaction.kinds import settle

FOUND = {
    "credit_card": [
        ("My card is <4111 1111 1111 1111>, exp 12/27.", "luhn"),
        ("amex <3782-822463-10005> ok", "luhn"),
        ("pay with <30569309025904>", "luhn"),
        ("Maestro card <6759649826438453>", "luhn"),
        ("card <4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1>", "luhn"),
        ("50 times <4111 1111 1111 1111>", "luhn"),
        ("my card number is <4111111111111112>, one digit is wrong", "context"),
        ("full width <４１１１１１１１１１１１１１１１>", "luhn"),
    ],
    "iban_code": [
        ("to <DE89 3704 0044 0532 0130 00> please", "mod97"),
        ("<GB82WEST12345698765432>.", "mod97"),
        ("lower case <nl91abna0417164300>", "mod97"),
        ("of a country not in the registry <PH226828288072902227>", "mod97"),
    ],
    "email_address": [
        ("mail <bob.smith+x@example.co.uk>, now", "mailbox"),
        ('<"quoted name"@example.com>', "mailbox"),
        ("mailto:<bob@example.org>.", "mailbox"),
        ("schreib an <jürgen@exämple.de>!", "mailbox"),
    ],
    "phone_number": [
        ("call <+1 (555) 123-4567 x22> now", "format"),
        ("or <+44 20 7183 8750>.", "format"),
        ("<(555) 123-4567>", "format"),
        ("(<555-123-4567>)", "format"),
        ("**<555-123-4567>**", "format"),
        ("<555.123.4567> 9 am", "format"),
        ("<001-555-123-4567>", "format"),
        ("<1-800-555-0199>", "format"),
        ("Fax <01.23.45.67.89>", "format"),
        ("Tel.: <030/1234567>", "format"),
        ("<06-12345678>", "format"),
        ("<0412 345 678>", "format"),
        ("call me at <5551234567> tomorrow", "context"),
        ("ring <8863543>", "context"),
        ('{"phone": "<5551234567>"}', "context"),
        ("<69 123 45 67> office", "context"),
        ("o: <5551234567>", "context"),
        ("call <30/166 1318>", "context"),
        ("Phone: <(412) 396 -6754> Fax", "format"),
        ("please call me about my account on <21 212 133 2727>", "context"),
        ("<0754-323 19>, or later", "format"),
        ("my number is <28194821>.", "context"),
        ("Desk: <81 21 99>", "context"),
        ("mobile <+77104974650>", "format"),
        ("هاتف call <٥٥٥-١٢٣-٤٥٦٧>", "format"),
    ],
    "ip_address": [
        ("host <10.1.2.3>:8080", "ipv4"),
        ("<8.8.8.8>. Next", "ipv4"),
        ("from <2001:db8::8a2e:370:7334> to", "ipv6"),
        ("[<fe80::1>]", "ipv6"),
    ],
    "mac_address": [("nic <00:1A:2B:3C:4D:5E> up", "eui48")],
    "us_ssn": [
        ("SSN: <123-45-6789>", "area_group_serial"),
        ("her social security number is <123456789>", "area_group_serial"),
        ("it is <123 45 6789>", "area_group_serial"),
        ("ssn <000-12-3456>", "context"),
    ],
    "national_id": [
        ("DNI <12345678Z>", "es_dni"),
        ("<X1234567L>", "es_nie"),
        ("NINO <AB 12 34 56 C>", "uk_nino"),
        ("<RSSMRA85T10A562S>", "it_codice_fiscale"),
        ("CPF <529.982.247-25>", "br_cpf"),
        ("<11.222.333/0001-81>", "br_cnpj"),
        ("<44051401359>", "pl_pesel"),
        ("<2341 2341 2346>", "in_aadhaar"),
        ("fødselsnummer <15076500565>", "no_fodselsnummer"),
        ("<811228-9874>", "se_personnummer"),
        ("<131052-308T>", "fi_hetu"),
        ("BSN <111222333>", "nl_bsn"),
        ("NHS number <943 476 5919>", "uk_nhs"),
        ("SIN <046 454 286>", "ca_sin"),
        ("TFN <123456782>", "ca_sin"),
        ("Steuer-ID <86095742719>", "de_steuer_id"),
        ("<S1234567D>", "sg_nric"),
        ("<ABCPE1234F>", "in_pan"),
        ("<11010519491231002X>", "cn_resident_id"),
        ("<85.07.30-033.28>", "be_rrn"),
        ("<8001015009087>", "za_id"),
        ("ITIN <912-70-1234>", "us_itin"),
        ("<10000000146>", "tr_kimlik"),
        ("CPR <150999-1234>", "dk_cpr"),
        ("national id: <1234567890>", "context"),
    ],
    "driver_license": [("my driver's license number is <D1234567>", "context")],
    "passport": [("passport number <X12345678>", "context")],
    "bank_account": [("account number <123456789>", "context"), ("routing number: <021000021>", "context")],
    "crypto_address": [
        ("<1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa>", "bitcoin"),
        ("<bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4>", "bitcoin"),
        ("<0x52908400098527886E0F7030069857D2E4169EE7>", "ethereum"),
    ],
    "secret": [
        ("key <sk-proj-abcDEF1234567890abcdef>", "prefix"),
        ("<ghp_16C7e42F292c6912E7710c838347Ae178B4a>", "prefix"),
        ("<AKIAIOSFODNN7EXAMPLE>", "prefix"),
        ("<SG.ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf>", "prefix"),
        ("<eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N>", "jwt"),
        ("Authorization: Bearer <abc.def-123456>", "named"),
        ("password is <hunter2>. It works.", "named"),
        ('{\\"password\\": \\"<hunter two>\\"}', "named"),
        ("api_key=<a8f5f167f44f4964e6c998dee827110c>&x=1", "named"),
        ("-> <-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----->\nbye", "private_key"),
        ("<-----BEGIN PRIVATE KEY-----\ncut off>", "private_key"),
        ("see db://<root:pass@db>", "url_credentials"),
    ],
    "url": [
        ("see <https://example.com/a(b)?c=1>.", "scheme"),
        ("(<https://example.org>)", "scheme"),
        ("at <www.example.pl/x>, or", "domain"),
        ("<example.com>", "domain"),
    ],
}


def marked(example: str) -> tuple[str, int, int]:
    """The text without the first < and the last >, and where they stood."""
    start, end = example.index("<"), example.rindex(">") - 1
    return example[:start] + example[start + 1 : end + 1] + example[end + 2 :], start, end


@pytest.mark.parametrize(
    ("kind", "example", "validator"), [(kind, *row) for kind, rows in FOUND.items() for row in rows]
)
def test_found(kind: str, example: str, validator: str) -> None:
    if validator == "url_credentials":  # what was found in a URL makes the whole of it a secret, where URLs count
        text, _, _ = marked(example)
        assert [(s.kind, s.validator) for s in find(text)] == [("secret", "url_credentials")]
        return
    text, start, end = marked(example)
    assert [(s.kind, s.start, s.end, s.validator) for s in find(text)] == [(kind, start, end, validator)]


def test_every_kind_has_examples() -> None:
    assert set(FOUND) == set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4, v1.2.3.4 and package==1.2.3.4",
        "10.0.0.256, 999.1.1.1, 1.2.3.4.5",
        "std::vector<int> a::b at 14:48:14",
        "on 1998-06-28 14:48:14, 12/27/1986 or 28.6.1998",
        "max_tokens: 16384, temperature 0.7, 1,234,567 and 1.234.567",
        "x = 3.14159265358979; y = 0.0454545455",
        "6300-2100=4200 and 50,000 - 8,000 - 4,000 = 38,000",
        "divisible by 11 (10781 ÷ 11 = 980.09)",
        "call 1234567 tokens",
        "mobile\n27 2279 President St",
        "call it 50000-8000-4000-24000 = 14000",
        "call about order 12345678",
        "the phone costs $1234567",
        "550e8400-e29b-41d4-a716-446655440000",
        "commit 9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c3b2a1f0e",
        "epoch 1732198533123, isbn 978-3-16-148410-0",
        "zip 12345-6789 in room 1234567",
        "the digits 4111111111111112",
        "DE88 3704 0044 0532 0130 00 is no IBAN",
        "12345678A has the wrong letter",
        "000-12-3456 and 666-12-3456 are no numbers of anybody",
        "The password is required. The token is invalid. secret: ${SECRET} api_key=<YOUR_API_KEY>",
        "tokenizer = AutoTokenizer.from_pretrained('bert')",
        '"client_secret": CLIENT_SECRET',
        "sk-this-is-only-a-sentence and eyJust.a.name",
        "@handle, a@b, and foo.py with os.path.join",
        "-----BEGIN CERTIFICATE-----",
        "MIT license 20240101",
        "",
    ],
)
def test_left_alone(text: str) -> None:
    assert find(text) == ()


def test_several_numbers_in_a_row_are_told_apart() -> None:
    text = "555-123-4567/555-123-4568 555-123-4569 or +1 555 123 4570 +44 20 7183 8750"
    assert [text[s.start : s.end] for s in find(text)] == [
        "555-123-4567",
        "555-123-4568",
        "555-123-4569",
        "+1 555 123 4570",
        "+44 20 7183 8750",
    ]


class TestOverlaps:
    CARD = Span("credit_card", 0, 16, "luhn", 0.98)

    def test_the_surer_find_names_the_place(self) -> None:
        assert settle([Span("phone_number", 0, 16, "context", 0.7), self.CARD]) == (self.CARD,)

    def test_what_the_loser_has_beyond_is_taken_too(self) -> None:
        overhang = Span("phone_number", 10, 20, "context", 0.7)
        assert settle([self.CARD, overhang]) == (Span("credit_card", 0, 20, "luhn", 0.98),)

    def test_one_that_bridges_two_joins_them(self) -> None:
        other, bridge = Span("us_ssn", 18, 29, "context", 0.9), Span("url", 10, 20, "scheme", 0.5)
        assert settle([other, bridge, self.CARD]) == (Span("credit_card", 0, 29, "luhn", 0.98),)
