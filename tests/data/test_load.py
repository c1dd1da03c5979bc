"""load_samples: files in, samples out."""

import json
from pathlib import Path

from luthier.data.load import load_samples


def test_rows_of_two_files_come_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.json"
    first.write_text(json.dumps({"instruction": "1 + 1?", "output": "2"}) + "\n")
    second.write_text(json.dumps([{"messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}]))
    loaded = load_samples([str(first), str(second)])
    assert loaded.mix == {"instruction_output": 1, "messages": 1}
    assert [s.messages[-1].content for s in loaded.samples] == ["2", "hello"]
    assert [(f.path, f.rows) for f in loaded.files] == [(str(first), 1), (str(second), 1)]
