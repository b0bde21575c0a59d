"""What the words before a number say about it: the nearest word that says anything decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Topic = Literal["phone", "card", "ssn", "national", "bank", "passport", "driver", "other"]

_REACH: Final = 60
_WORD: Final = re.compile(r"[^\W\d_]+")
_LABEL: Final = re.compile(r"([^\W\d_]+)\.?\)?[\"']?[ \t]{0,3}[:#=][ \t]{0,3}[\"']?$")
_AFTER: Final = re.compile(r"[ \t]{0,3}[(\[,\-]?[ \t]{0,3}([^\W\d_]{1,16}|%)")

_OWN_NUMBER: Final = re.compile(r"\b(?:my|his|her|our|their|your) (?:new |direct )?number(?: is|'s|:)? {0,2}\(?$")
_OPERATOR_AFTER: Final = re.compile(r"[ \t]?[=÷×^%]|\*\d|\+\d|[ \t][*+\-x][ \t]\d")
_OPERATOR_BEFORE: Final = re.compile(r"(?:[÷×^]|\d ?[*+=]|\d [\-/]|[=)] ?[+\-/]) ?$")


def split_words(text: str) -> frozenset[str]:
    """The words of a list that is written as text."""
    return frozenset(text.split())


_WORDS: Final[dict[Topic, str]] = {
    "phone": """
        phone phones telephone telephones tel tél telefon telefone telefono teléfono téléphone telefoon
        telefonnummer telefonnr rufnummer mobile mobil mobiel móvil movil cell cellphone cellular handy
        celular portable fax telefax call calls calling called callback dial dialed dialing ring rang
        whatsapp sms text texted texting voicemail hotline helpline landline reach contact llame llamar
        appelez appeler anrufen ruf bel bellen chiamare ligar pager viber
    """,
    "card": """
        card cards visa mastercard amex maestro discover diners jcb debit creditcard kreditkarte
        kreditkartennummer tarjeta carte carta cartão kaart cvv pan
    """,
    "ssn": """
        ssn ssns
    """,
    "national": """
        bsn nhs sin tfn steuer steuerid idnr identifikationsnummer aadhaar aadhar uidai cpf cnpj pesel dni
        nie nif nino national identity insurance identification tax taxpayer itin tin cedula cédula rut
        personnummer personnumber fødselsnummer cpr hetu henkilötunnus rrn nir insee medicare curp codice
        fiscale sofi burgerservicenummer sozialversicherungsnummer rijksregister tckn kimlik citizen
        citizenship resident
    """,
    "bank": """
        account accounts acct konto kontonummer cuenta compte conto rekening routing aba sort iban bank
        swift
    """,
    "passport": """
        passport passports reisepass pasaporte passeport passaporto paspoort passnummer
    """,
    "driver": """
        licence license permit führerschein dl
    """,
    "other": """
        order orders invoice ticket case ref reference zip postcode postal tracking serial sku isbn issn ean
        doi version build commit error status year page port pid row rows line bytes tokens amount price
        total cost population id ids uid uuid timestamp epoch seed hash item items quantity count model
        patent article document doc figure table chapter section balance score room flight batch job message
        request response transaction
    """,
}
_TOPICS: Final[dict[str, Topic]] = {word: topic for topic, words in _WORDS.items() for word in words.split()}
_FILLER: Final = split_words("number numbers no nr num nummer numero número is the id code are was card s")
_REACHED_AT: Final = split_words("at on under")
_PHONE_LABELS: Final = split_words("t p m f o h c w office desk home work direct main mob ph land business ext cell")
_PHONE_AFTER: Final = split_words(
    """
    office fax mobile cell home work desk phone tel direct landline telephone mobil telefon whatsapp ext
    extension
    """
)
_UNITS: Final = split_words(
    """
    % times tokens bytes rows users people records items usd eur gbp dollars euros pounds ms s sec seconds
    minutes hours days weeks years km m mi miles kg g kb mb gb tb calls requests votes copies units points
    inhabitants customers events
    """
)


@dataclass(frozen=True, slots=True)
class Telling:
    """What a word before is about; ``direct`` when only filler stands between: ``account number is 1234567``."""

    topic: Topic | None
    direct: bool


def topic_before(text: str, start: int) -> Topic | None:
    """What the nearest telling word within 60 characters before ``start`` is about; ``None`` when none tells."""
    return told_before(text, start).topic


def told_before(text: str, start: int) -> Telling:
    """As ``topic_before``, with whether the word stands right before."""
    window = text[max(0, start - _REACH) : start].lower()
    label = _LABEL.search(window[-24:])
    if label and label[1] in _PHONE_LABELS:
        return Telling("phone", True)
    words = _WORD.findall(window)
    direct = True
    for place in range(len(words) - 1, -1, -1):
        word = words[place]
        if word == "security" and place and words[place - 1] in ("social", "soc"):
            return Telling("ssn", direct)
        topic = _TOPICS.get(word)
        if topic == "driver" and word != "führerschein" and not {"driver", "drivers", "driving"} & set(words):
            topic = "other"
        if topic is not None and not (topic == "other" and _qualified(words, place)):
            if not direct and words[-1] in _REACHED_AT and any(_TOPICS.get(one) == "phone" for one in words[:place]):
                return Telling("phone", False)  # call me about my account on …
            return Telling(topic, direct)
        direct = direct and word in _FILLER
    return Telling("phone" if _OWN_NUMBER.search(window[-32:]) else None, False)


def _qualified(words: list[str], place: int) -> bool:
    """An ``id`` that an earlier word explains, as in ``national id`` or ``tax id``."""
    return words[place] in ("id", "ids", "document", "reference") and bool(place) and words[place - 1] in _TOPICS


def phone_after(text: str, end: int) -> bool:
    """Whether the word right after says that it was a phone: ``555 0100 office``."""
    found = _AFTER.match(text, end)
    return found is not None and found[1].lower() in _PHONE_AFTER


def in_sum(text: str, start: int, end: int) -> bool:
    """Whether the number is part of a calculation: ``6300-2100=4200``, ``2 * 5550100``."""
    return (
        _OPERATOR_AFTER.match(text, end) is not None
        or _OPERATOR_BEFORE.search(text[max(0, start - 4) : start]) is not None
    )


def unit_after(text: str, end: int) -> bool:
    """Whether the word right after makes the number a quantity: ``1234567 tokens``."""
    found = _AFTER.match(text, end)
    return found is not None and found[1].lower() in _UNITS
