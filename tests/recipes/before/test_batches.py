"""The table of batch sizes: each cell is a plan, and the one that is set is the plan itself."""

import json

import pytest

from luthier.cli.main import main
from luthier.planner.device import Device
from luthier.recipes.before.batches import batch_table
from luthier.recipes.before.planned import make_plan


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("batches") / "rows.jsonl"
    lines = [{"prompt": "why " * (1 + n % 60), "completion": "so " * 20} for n in range(64)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def table(**settings):
    device = settings.pop("device", None)
    planned = make_plan(settings, device=Device.parse(device) if device else None)
    return planned.plan, batch_table(planned)


def test_the_cell_of_the_settings_is_their_plan_and_longer_cells_take_more(rows):
    plan, made = table(model="starter", dataset=rows, per_device_train_batch_size=3)
    length, batch = made.chosen
    assert batch == 3
    assert batch in made.batches
    cells = {(cell.seq_length, cell.batch): cell for row in made.cells for cell in row}
    assert cells[made.chosen].peak_bytes == plan.peak_bytes
    assert length == made.lengths[-1]
    assert list(made.lengths) == sorted(set(made.lengths))
    assert made.rows_cut[-1] == 0
    for row in made.cells:
        peaks = [cell.peak_bytes for cell in row if cell.batch != batch]
        assert peaks == sorted(peaks)
        assert [cell.steps_per_epoch for cell in row] == [-(-64 // size) for size in made.batches]


def test_what_does_not_fit_is_marked_and_the_largest_that_fits_is_named():
    _, made = table(
        model="qwen3-1.7b", method="qlora", load_in_4bit=True, device="T4 16GB",
        micro_batch_tokens=2**20, gradient_checkpointing="full", seq_length=1024,
    )  # fmt: skip
    row = made.cells[-1]
    marks = [cell.verdict for cell in row]
    assert marks[0] == "fits"
    assert marks[-1] == "no"
    assert sorted(marks, key=["fits", "tight", "no"].index) == marks
    assert made.largest[-1] == max(cell.batch for cell in row if cell.verdict == "fits")
    assert made.assumption


def test_the_command_prints_it_in_80_columns(rows, capsys):
    words = ["plan", "--model", "starter", "--dataset", rows, "--batches"]
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        assert not ended.value.code
    said, _, body = capsys.readouterr().out.partition("{\n")
    drawn = said.partition("per_device_train_batch_size\n")[2]
    assert "seq_length" in drawn
    assert drawn.count("*") == 2  # the settings as they are, and what the mark means
    assert max(map(len, drawn.splitlines())) <= 80
    assert json.loads("{" + body)["batches"]["chosen"]
