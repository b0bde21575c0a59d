"""The gRPC code that is checked in is what the .proto gives."""

import subprocess
import sys
from pathlib import Path

ROUTER = Path(__file__).parents[1]


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    proto = "proto/flywheel_router/v1/decide.proto"
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-Iproto", *outputs, proto], cwd=ROUTER, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "flywheel_router/v1").iterdir()}
    kept = {path.name: path.read_text() for path in (ROUTER / "src/flywheel_router/v1").glob("decide_pb2*.py*")}
    assert made == kept
