"""A user's decisions, calls and feedback meet under one hash, whoever computes it with the shared key."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flywheel.client.records import user_hash
from flywheel.events import Codec, load_registry
from flywheel.journal import Journal
from flywheel.observe import Metrics
from flywheel_ingest.adapters import user_hasher
from flywheel_router.board import PolicyBoard
from flywheel_router.core import Decider
from flywheel_router.decision_log import DecisionLog
from flywheel_router.service import DecideService

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


def test_ingest_router_and_client_hash_alike(tmp_path: Path) -> None:
    metrics = Metrics()
    with Journal(tmp_path) as journal:
        log = DecisionLog(journal, Codec(load_registry()), metrics)
        decider = Decider(PolicyBoard(), remembered=1)

        @given(key=texts, project=texts, user=texts)
        def alike(key: str, project: str, user: str) -> None:
            service = DecideService(decider, log, metrics, user_hash_key=key.encode())
            expected = user_hasher(key.encode())(project, user)
            assert service.hash_user(project, user) == user_hash(key.encode(), project, user) == expected
            assert expected != user

        alike()
    assert DecideService(decider, log, metrics).hash_user("p", "ann") is None
