"""Ledger, recorded and simulated providers: for tests and the demo."""

from flywheel.testkit.experiment import Answer, Experiment, ModelVersion, Phase, Provider, Query
from flywheel.testkit.ledger import Balance, Ledger
from flywheel.testkit.providers import PRIME_FIGURES, Figures, Simulator, Source, load_experiment, simulated_prime
from flywheel.testkit.recorded import (
    GSM8K_FILE,
    PRIME_FILE,
    DataInvalid,
    data_folder,
    estimated_tokens,
    final_verdict,
    recorded_gsm8k,
    recorded_prime,
)

__all__ = [
    "GSM8K_FILE",
    "PRIME_FIGURES",
    "PRIME_FILE",
    "Answer",
    "Balance",
    "DataInvalid",
    "Experiment",
    "Figures",
    "Ledger",
    "ModelVersion",
    "Phase",
    "Provider",
    "Query",
    "Simulator",
    "Source",
    "data_folder",
    "estimated_tokens",
    "final_verdict",
    "load_experiment",
    "recorded_gsm8k",
    "recorded_prime",
    "simulated_prime",
]
