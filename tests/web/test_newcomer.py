"""What a newcomer does, in order, in a real browser on the real server.

A file with a broken row, its repair, a job on the starter model, the loss that falls while one
looks, a reload in the middle, base and tuned side by side, the adapter on one's own disk.
"""

import json
import zipfile
from importlib.resources import files

import pytest

ROWS = 240


@pytest.fixture
def broken_file(tmp_path):
    """Real rows of the package; the third has lost its end."""
    text = (files("luthier") / "starter" / "data" / "sft_train.jsonl").read_text("utf-8")
    lines = text.splitlines()[:ROWS]
    lines[2] = lines[2][: len(lines[2]) // 2]
    path = tmp_path / "aisles.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def figure_of(page, name):
    """The last figure of a chart, as its table has it."""
    return float(
        page.locator(f"[data-chart={name}] tbody tr").last.locator("td").last.text_content()
    )


def losses(page):
    """Training loss by step, from the table beside the chart."""
    rows = page.locator("[data-chart=loss] tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    )
    return [float(cells[1]) for cells in rows if cells[1]]


def test_a_newcomer_from_a_broken_file_to_an_adapter(visit, broken_file, tmp_path):
    reader = visit()
    page = reader.go("data")
    page.set_default_timeout(60_000)

    page.get_by_label("Choose a file").set_input_files(broken_file)
    page.get_by_role("heading", name="aisles.jsonl", level=1).wait_for()
    page.get_by_text("line 3").first.wait_for()
    page.get_by_role("button", name="Make a repaired copy").click()
    page.get_by_role("heading", name="aisles-fixed.jsonl", level=1).wait_for()
    page.locator(".piece.learned").nth(1).wait_for()
    page.locator("dd", has_text=str(ROWS - 1)).first.wait_for()

    page.get_by_role("link", name="Train on it").click()
    page.get_by_role("heading", name="New job", level=1).wait_for()
    page.get_by_text("What auto became, and why").wait_for()
    page.get_by_label("Name (optional)").fill("aisle-helper")
    page.get_by_label("eval_split").fill("24")
    page.get_by_label("num_train_epochs").fill("12")
    page.get_by_label("learning_rate").fill("0.002")
    page.get_by_label("learning_rate").press("Tab")
    page.get_by_role("button", name="Start the job").click()

    page.get_by_role("heading", name="aisle-helper", level=1).wait_for()
    page.locator("[data-chart=loss] [data-ready=true]").wait_for()
    page.wait_for_timeout(1500)
    address = page.url
    seen = len(losses(page))
    assert seen > 0
    page.reload()
    page.locator("[data-chart=loss] [data-ready=true]").wait_for()
    assert page.url == address
    assert len(losses(page)) >= seen

    page.get_by_text("finished", exact=True).wait_for(timeout=120_000)
    page.locator("[data-chart=loss] [data-ready=true]").wait_for()
    page.reload()
    page.locator("[data-chart=loss] [data-ready=true]").wait_for()
    course = losses(page)
    assert course[-1] < 0.6 * course[0]

    with page.expect_download() as started:
        page.get_by_role("link", name="Download the result").click()
    result = tmp_path / "result.zip"
    started.value.save_as(result)
    with zipfile.ZipFile(result) as archive:
        assert "adapter_model.safetensors" in archive.namelist()
        assert json.loads(archive.read("adapter_config.json"))["peft_type"] == "LORA"

    page.get_by_role("link", name="Chat with it").first.click()
    page.get_by_label("Write a message").fill("Where can I find a plum?")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("per second").nth(1).wait_for()
    base, tuned = page.locator(".turn.assistant").all_text_contents()
    assert base != tuned
    assert "aisle" in tuned
    page.get_by_role("button", name="Show the prompt").last.click()
    page.locator(".piece.token").first.wait_for()
