"""How the embedded engine's allocator starts, which is settled when a process first loads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from flywheel.store import StoreSettings, connect

print(connect(StoreSettings(path=Path(sys.argv[1]))).query("SELECT * FROM system.jemalloc_stats").result_rows[0][0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the engine uses the system's allocator")
@pytest.mark.parametrize(("environ", "kept_ms"), [({}, 1000), ({"JE_MALLOC_CONF": "dirty_decay_ms:7000"}, 7000)])
def test_freed_pages_go_back_after_a_second_unless_an_operator_says_otherwise(tmp_path: Path, environ, kept_ms):
    told = {name: value for name, value in os.environ.items() if name != "JE_MALLOC_CONF"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, env=told | environ
    )
    assert f"opt.dirty_decay_ms: {kept_ms} " in done.stdout
