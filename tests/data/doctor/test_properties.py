"""Whatever the rows are: nothing crashes, every row is accounted for, fixing twice changes nothing."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.doctor.test_rules import examine_files

from luthier.data.doctor import fix
from luthier.errors import LuthierError, NoRowsError

TEXTS = st.sampled_from(
    [
        "",
        " ",
        "Yes",
        "2 + 2?",
        "\ufeffhi\u200b",
        "\x1b[1mhi",
        "</s></s>",
        "caf\u00c3\u00a9",
        "{{name}}",
        "你好吗",
    ]
)
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "nobody"]), "content": TEXTS},
    optional={"weight": st.sampled_from([0, 1, -1])},
)
TOOLS = st.sampled_from(
    [
        None,
        "",
        "{",
        [{"name": "f", "parameters": {"type": "dict", "properties": {"a": {"type": "float"}}}}],
    ]
)
ROW = st.one_of(
    st.fixed_dictionaries({"messages": st.lists(TURN, max_size=5)}, optional={"tools": TOOLS}),
    st.fixed_dictionaries({"instruction": TEXTS, "output": TEXTS}, optional={"input": TEXTS}),
    st.fixed_dictionaries({"prompt": TEXTS, "chosen": TEXTS, "rejected": TEXTS}),
    st.fixed_dictionaries({"text": TEXTS}),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.sampled_from([1, None, "row"]),
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=8))
def test_any_rows(rows, tokenizer):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        report = examine_files([str(path)], tokenizer)
        assert report.rows == len(rows) == report.used + report.bad.count
        json.dumps(report.to_dict())
        try:
            first = fix(path, Path(folder) / "once.jsonl")
        except NoRowsError:
            return
        except LuthierError as error:
            raise AssertionError("only a file without any sound row cannot be fixed") from error
        assert first.rows == len(rows)
        second = fix(Path(folder) / "once.jsonl", Path(folder) / "twice.jsonl")
        assert not second.done
        once, twice = (Path(folder) / f"{name}.jsonl" for name in ("once", "twice"))
        assert once.read_bytes() == twice.read_bytes()
