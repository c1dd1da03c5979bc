"""Files that other tools read wrongly: read as they are meant, or refused with the line that mends them."""

from pathlib import Path

import pytest
from tests.conftest import SHARED

from luthier.data.doctor.fix import fix
from luthier.data.load import load_samples
from luthier.errors import DataError, EncodingError

CASES = SHARED.parent / "cases" / "data"

pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the shared cases are absent")

FIRST_CANDIDATE = {
    "enc_cp1251.csv": "cp1251",
    "enc_euc_kr.csv": "cp949",
    "enc_utf_32.csv": "utf-32",
}


@pytest.mark.parametrize("name", FIRST_CANDIDATE)
def test_an_encoding_is_a_candidate_and_is_never_written(name, tmp_path):
    with pytest.raises(EncodingError) as refused:
        load_samples([str(CASES / name)])
    said = f"{refused.value.what} {refused.value.fix}"
    assert said.lower().index(FIRST_CANDIDATE[name]) >= 0
    assert "guess" in refused.value.what or name == "enc_utf_32.csv"
    if name != "enc_utf_32.csv":  # its mark is no guess
        with pytest.raises(EncodingError):
            fix(CASES / name, tmp_path / "new.csv")
        assert list(tmp_path.iterdir()) == []


def test_one_stray_byte_is_a_line_to_mend_and_not_an_encoding():
    with pytest.raises(EncodingError, match="line 25 is not UTF-8, the rest of the file is") as one:
        load_samples([str(CASES / "enc_one_bad_byte.jsonl")])
    assert "sed -i.bak" in one.value.fix


@pytest.mark.parametrize("name", ["split", "hf"])
def test_test_files_of_a_folder_are_offered_for_measuring_and_not_learned(name):
    loaded = load_samples([str(CASES / name)])
    assert len(loaded.samples) == 30
    assert [Path(file.path).name.split("-")[0].split(".")[0] for file in loaded.files] == ["train"]
    assert "--eval-dataset" in loaded.notices[0]
    assert name == "split" or "dataset_infos.json" in loaded.notices[1]


REFUSED = {
    "image_single.jsonl": ("'image' holds pictures", "leave these rows out"),
    "images_col.jsonl": ("'images' holds pictures", "leave these rows out"),
    "sysprompt_col.jsonl": ("'system_prompt' looks like 'system'", "{system: system_prompt}"),
    "header_cap_input.csv": ("'Input' looks like 'input'", "input: Input"),
    "header_inputs.csv": ("'inputs' looks like 'input'", "input: inputs"),
    "header_caps.csv": ("'Input', 'Instruction', 'Output'", "output: Output"),
    "instr_question.jsonl": ("'instruction' means something", "instruction: instruction"),
    "joined.csv": ("line 3: the header again", "sed -i.bak '3d'"),
    "boms_joined.csv": ("line 3: a byte-order mark and the header again", "sed -i.bak '3d'"),
    "pq_dates.parquet": ("'blob' holds bytes", "write 'blob' as text"),
    "pq_binary_text.parquet": ("'completion' holds bytes", "write 'completion' as text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_what_is_learned_is_refused_with_the_line_that_mends_it(name):
    what, mends = REFUSED[name]
    with pytest.raises(DataError) as refused:
        load_samples([str(CASES / name)])
    assert what in refused.value.what
    assert mends in refused.value.fix


READ = {
    "quotes3.tsv": 4, "quotes.tsv": 5, "saved": 40, "pq_alpaca_naninput.parquet": 200,
    "pq_alpaca_nullinput.parquet": 199, "nan.csv": 9,
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_rows_are_as_many_as_the_file_has(name):
    assert len(load_samples([str(CASES / name)]).samples) == READ[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("poem.txt", "4 documents of 16 to 19 characters (mean 18), parted at line ends"),
        ("code.txt", "3 documents of 12 to 22 characters (mean 19), parted at blank lines"),
    ],
)
def test_documents_of_plain_text_are_counted_and_their_border_named(name, said):
    assert said in load_samples([str(CASES / name)]).notices[0]


def test_the_invisible_space_of_scripts_that_use_it_is_left_alone(tmp_path):
    done = fix(CASES / "invisible.jsonl", tmp_path / "new.jsonl").done
    assert "invisible-characters" not in done
    assert "\u200b" in (tmp_path / "new.jsonl").read_text("utf-8")
