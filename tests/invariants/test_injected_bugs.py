"""The suite tests itself: under each classic bug, put into the product, it must fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.invariants.injections import INJECTIONS

CHECKOUT = Path(__file__).resolve().parents[2]
SUITE = """
test_parity.py::test_sft_gradient[llama-lora-small flat-0]
test_parity.py::test_sft_gradient[gpt2-lora-small flat-1]
test_parity.py::test_sft_gradient[llama-full-tree-1]
test_parity.py::test_sft_gradient[gemma2-lora-tree-0]
test_parity.py::test_dpo_gradient[mistral-lora-small tree-0]
test_parity.py::test_dpo_gradient[llama-full-tree-1]
test_parity.py::test_dpo_gradient[gpt2-full-flat-0]
test_parity.py::test_rows_are_what_the_hand_written_table_says
test_parity.py::test_positions_restart_at_every_root
test_truncated.py
test_two_ranks.py
test_isolation.py::test_tokens_of_one_row_move_no_bit_of_the_others[qwen2]
test_qlora_parity.py::test_gradient_over_a_quantised_base[llama-nf4-sft-small tree]
test_dpo_start.py::test_the_loss_starts_at_ln_2[llama-SFT run-False]
""".strip().splitlines()


@pytest.mark.slow
def test_the_suite_passes_and_fails_under_every_injected_bug(tmp_path):
    base = tmp_path / "report"
    tests = [f"tests/invariants/{name}" for name in SUITE]
    command = [sys.executable, "-m", "tests.invariants.injections", str(base), *tests]
    subprocess.run(command, cwd=CHECKOUT, check=True, timeout=900)
    escaped = []
    for bug in ("", *INJECTIONS):
        lines = map(json.loads, Path(f"{base}.{bug}").read_text().splitlines())
        *caught, ended = lines
        if not bug:
            assert ended["status"] == 0, f"without any bug: {caught}"
            continue
        # A comparison must find it: the bug runs through in silence, no error gives it away.
        if ended["status"] != 1 or not caught[0]["error"].startswith("assert "):
            escaped.append((bug, ended, caught))
            continue
        name = caught[0]["test"].removeprefix("tests/invariants/")
        print(f"{bug}: caught by {name} ({caught[0]['error'][:100]})")  # noqa: T201
    assert not escaped
