"""Real recorded answers, read from the shared data folder: LLMDrift's PRIME queries and RouteLLM's GSM8K answers."""

from __future__ import annotations

import csv
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final

from flywheel.testkit.experiment import Answer, Experiment, ModelVersion, Phase, Query

DATA_ENV: Final = "FLYWHEEL_DATA"
PRIME_FILE: Final = Path("llmdrift/PRIME_FULL_EVAL.csv")
GSM8K_FILE: Final = Path("routellm/gsm8k_responses.csv")
CHARS_PER_TOKEN: Final = 4.0

GPT4_MARCH: Final = ModelVersion("openai", "gpt-4-0314")
GPT4_JUNE: Final = ModelVersion("openai", "gpt-4-0613")
GPT35_MARCH: Final = ModelVersion("openai", "gpt-3.5-turbo-0301")
GPT35_JUNE: Final = ModelVersion("openai", "gpt-3.5-turbo-0613")
PRIME_PHASES: Final = (
    Phase("march", {"gpt4": GPT4_MARCH, "gpt35": GPT35_MARCH}),
    Phase("june", {"gpt4": GPT4_JUNE, "gpt35": GPT35_JUNE}),
)
GPT4_TURBO: Final = ModelVersion("openai", "gpt-4-1106-preview")
MIXTRAL: Final = ModelVersion("mistral_ai", "open-mixtral-8x7b")

_BRACKETED: Final = re.compile(r"\[(yes|no)\]")
_BARE: Final = re.compile(r"\b(yes|no)\b")


class DataInvalid(ValueError):
    """A recorded file that is not what it should be; names the file, the line and the column."""


def data_folder() -> Path | None:
    """``FLYWHEEL_DATA``, else ``../shared/data`` beside the repository; ``None`` when that folder does not exist."""
    named = os.environ.get(DATA_ENV)
    if named is not None:
        return Path(named) if Path(named).is_dir() else None
    root = next((p for p in Path(__file__).resolve().parents if (p / "schemas" / "topics").is_dir()), Path.cwd())
    beside = root.parent / "shared" / "data"
    return beside if beside.is_dir() else None


def final_verdict(answer: str) -> str:
    """The verdict of a step-by-step answer: its last ``[Yes]`` or ``[No]``, else its last bare yes or no, else ``no``.

    An answer cut off before any verdict affirms nothing, so it counts as ``no``. On the recorded PRIME answers this
    gives GPT-4 84.1 % → 51.1 % and GPT-3.5 52.9 % → 78.2 %. (Chen, Zaharia, Zou 2023, arXiv 2307.09009, the source of
    the data.)
    """
    text = answer.lower()
    found = _BRACKETED.findall(text) or _BARE.findall(text)
    return found[-1] if found else "no"


class RecordedPrime:
    """LLMDrift's recorded answers to "Is N a prime number?": 1,000 queries, four model versions."""

    def __init__(self, path: Path) -> None:
        self._queries, self._answers = _read_prime(path)

    def queries(self) -> Sequence[Query]:
        return self._queries

    def answer(self, query: Query, model: ModelVersion) -> Answer:
        return self._answers[query.id, model]


class RecordedGsm8k:
    """RouteLLM's recorded answers to 1,319 grade-school maths questions by GPT-4 Turbo and Mixtral 8x7B.

    The recording has no latency (unknown here) and no usage: tokens are estimated at four characters each, and the
    cost is that estimate times the list price. Good enough to tell a dear arm from a cheap one, not to bill anybody.
    """

    def __init__(self, path: Path) -> None:
        self._queries, self._answers = _read_gsm8k(path)

    def queries(self) -> Sequence[Query]:
        return self._queries

    def answer(self, query: Query, model: ModelVersion) -> Answer:
        return self._answers[query.id, model]


def recorded_prime(folder: Path) -> Experiment:
    """The PRIME experiment from the recording. Raises ``DataInvalid``, or ``FileNotFoundError``."""
    provider = RecordedPrime(folder / PRIME_FILE)
    return Experiment("llmdrift", False, "prime", "gpt4", "gpt35", PRIME_PHASES, provider)


def recorded_gsm8k(folder: Path) -> Experiment:
    """The GSM8K experiment from the recording; one phase, nothing changes. Raises ``DataInvalid``,
    ``FileNotFoundError``."""
    phase = Phase("gsm8k", {"gpt4": GPT4_TURBO, "mixtral": MIXTRAL})
    return Experiment("routellm", False, "gsm8k", "gpt4", "mixtral", (phase,), RecordedGsm8k(folder / GSM8K_FILE))


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise DataInvalid(f"{path.name}: no column {missing[0]!r}")
        for row in reader:
            yield reader.line_num, row


def _read_prime(path: Path) -> tuple[list[Query], dict[tuple[str, ModelVersion], Answer]]:
    versions = {model.name: model for phase in PRIME_PHASES for model in phase.models.values()}
    queries: dict[str, Query] = {}
    answers: dict[tuple[str, ModelVersion], Answer] = {}
    columns = ("id", "model", "query", "ref_answer", "answer", "latency", "cost", "answer_token")
    for line, row in _rows(path, columns):
        model = versions.get(row["model"].rpartition("/")[2])
        if model is None:
            continue
        query = queries.setdefault(row["id"], Query(row["id"], row["query"], row["ref_answer"].lower()))
        try:
            latency_ms, cost_usd = float(row["latency"]) * 1000, Decimal(row["cost"])
            output_tokens = int(row["answer_token"])
        except (ValueError, ArithmeticError) as error:
            raise DataInvalid(f"{path.name} line {line}: latency, cost or answer_token is not a number") from error
        right = final_verdict(row["answer"]) == query.reference
        answers[query.id, model] = Answer(model, row["answer"], right, cost_usd, latency_ms, None, output_tokens)
    whole = [q for q in queries.values() if all((q.id, model) in answers for model in versions.values())]
    if not whole:
        raise DataInvalid(f"{path.name}: no query is answered by all of {', '.join(versions)}")
    return whole, answers


def _read_gsm8k(path: Path) -> tuple[list[Query], dict[tuple[str, ModelVersion], Answer]]:
    columns = {"mistralai/Mixtral-8x7B-Instruct-v0.1": MIXTRAL, "gpt-4-1106-preview": GPT4_TURBO}
    needed = ["prompt", *columns, *(f"{column}_response" for column in columns)]
    queries: list[Query] = []
    answers: dict[tuple[str, ModelVersion], Answer] = {}
    for number, (line, row) in enumerate(_rows(path, needed)):
        query = Query(str(number), row["prompt"], None)
        queries.append(query)
        for column, model in columns.items():
            if row[column] not in {"True", "False"}:
                raise DataInvalid(f"{path.name} line {line}: {column} is {row[column]!r}, not True or False")
            text = row[f"{column}_response"]
            input_tokens, output_tokens = estimated_tokens(query.text), estimated_tokens(text)
            cost_usd = _list_price(model, input_tokens, output_tokens)
            right = row[column] == "True"
            answers[query.id, model] = Answer(
                model, text, right, cost_usd, None, input_tokens, output_tokens, tokens_counted=False
            )
    return queries, answers


def estimated_tokens(text: str) -> int:
    """Tokens of a text at four characters each, the usual rule of thumb for English; at least one."""
    return max(1, math.ceil(len(text) / CHARS_PER_TOKEN))


def _list_price(model: ModelVersion, input_tokens: int, output_tokens: int) -> Decimal:
    input_usd, output_usd = _token_prices(model)
    return input_usd * input_tokens + output_usd * output_tokens


@lru_cache(maxsize=8)
def _token_prices(model: ModelVersion) -> tuple[Decimal, Decimal]:
    """USD per input token and per output token, from the genai-prices list."""
    from genai_prices import Usage, calc_price

    provider = "mistral" if model.provider == "mistral_ai" else model.provider
    million = 1_000_000
    price = calc_price(Usage(input_tokens=million, output_tokens=million), model_ref=model.name, provider_id=provider)
    return Decimal(price.input_price) / million, Decimal(price.output_price) / million
