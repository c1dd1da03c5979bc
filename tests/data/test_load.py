"""load_samples: files in, samples out."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.data.load import LoadedFile, load_samples
from luthier.errors import FormatError, NoRowsError, SettingsError


def test_rows_of_two_files_come_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.json"
    first.write_text(json.dumps({"instruction": "1 + 1?", "output": "2"}) + "\n")
    second.write_text(
        json.dumps(
            [
                {
                    "messages": [
                        {"role": "user", "content": "hi"},
                        {"role": "assistant", "content": "hello"},
                    ]
                }
            ]
        )
    )
    loaded = load_samples([str(first), str(second)])
    assert loaded.mix == {"instruction_output": 1, "messages": 1}
    assert [s.messages[-1].content for s in loaded.samples] == ["2", "hello"]
    assert [(f.path, f.rows) for f in loaded.files] == [(str(first), 1), (str(second), 1)]


PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
CHAT = {"prompt": "q", "completion": "a"}
WRONG = [
    (PAIR, "sft", "preference pairs", "--objective dpo"),
    (CHAT, "dpo", "conversations", "--objective sft"),
    (CHAT, "text", "conversations", "--objective sft"),
    ({"text": "words"}, "dpo", "texts", "--objective text"),
]


@pytest.mark.parametrize(("row", "objective", "kind", "fix"), WRONG)
def test_rows_for_another_objective_are_refused_with_that_objective(
    tmp_path: Path, row: dict[str, str], objective: str, kind: str, fix: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [row, row])))
    with pytest.raises(FormatError, match=f"2 of its 2 samples are {kind}") as refused:
        load_samples([str(path)], objective=objective)
    assert fix in refused.value.fix
    assert len(load_samples([str(path)], objective=None).samples) == 2


def test_the_chosen_answers_of_pairs_can_be_learned_as_the_refusal_says(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(PAIR))
    columns = {"prompt": "prompt", "completion": "chosen"}
    loaded = load_samples(str(path), columns=columns)
    assert loaded.mix == {"prompt_completion": 1}
    assert loaded.unused == {"rejected": 1}


def test_plain_text_serves_text_and_sft(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("one line\nanother\n")
    for objective in ("text", "sft"):
        assert load_samples([str(path)], objective=objective).mix == {"text (plain)": 2}


def test_an_unknown_objective_and_no_data_set_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("one line")
    with pytest.raises(SettingsError, match="'reinforcement'"):
        load_samples([str(path)], objective="reinforcement")
    with pytest.raises(NoRowsError, match="no data set"):
        load_samples([])


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(CHAT))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_samples([str(path)]).files == [LoadedFile(str(path), digest, 1)]


def test_loading_does_not_import_torch() -> None:
    code = "import sys, luthier.data.load; sys.exit('torch' in sys.modules or 'pyarrow' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
