"""What a newcomer does, in order, in a real browser on the real server.

A file with a broken row, its repair, a job on the starter model, the loss that falls while one
looks, a reload in the middle, base and tuned side by side, the adapter on one's own disk.
"""

import json
import zipfile
from importlib.resources import files

import pytest
from tests.web.browsing import violations

ROWS = 240


@pytest.fixture
def broken_file(tmp_path):
    """Real rows of the package; the third has lost its answer."""
    text = (files("luthier") / "starter" / "data" / "sft_train.jsonl").read_text("utf-8")
    lines = text.splitlines()[:ROWS]
    lines[2] = json.dumps(
        {"messages": [*json.loads(lines[2])["messages"][:1], {"role": "assistant", "content": ""}]}
    )
    path = tmp_path / "aisles.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def losses(page):
    """Training loss by step, from the table beside the chart."""
    rows = page.locator("[data-chart=loss] tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    )
    return [float(cells[1]) for cells in rows if cells[1]]


def test_a_newcomer_from_a_broken_file_to_an_adapter(visit, broken_file, tmp_path, axe, picture):
    reader = visit()
    page = reader.go("data")
    page.set_default_timeout(60_000)

    mend(page, broken_file, picture)
    start(page, picture)
    job = page.url.partition("#/")[2]
    watch(page, picture)
    download(page, tmp_path / "result.zip")
    assert violations(page, axe) == []
    compare_answers(page, picture)
    assert violations(page, axe) == []
    picture(reader.go(""), "home")
    picture(reader.go("models"), "models")
    for language, charts in (("zh", "图表"), ("id", "Grafik"), ("vi", "Biểu đồ")):
        in_words = visit(language=language, theme="dark", width=390).go(job)
        in_words.get_by_role("link", name=charts, exact=True).wait_for()
        in_words.locator("[data-chart=loss] [data-ready=true]").wait_for()
        assert in_words.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(in_words, "phone")


def mend(page, broken_file, picture):
    """Upload, see what is wrong and where, take the repaired copy."""
    page.get_by_label("Choose a file").set_input_files(broken_file)
    page.get_by_role("heading", name="aisles.jsonl", level=1).wait_for()
    page.get_by_text("empty answer").first.wait_for()
    page.locator(".places").get_by_text("line 3").first.wait_for()
    page.locator(".piece.learned").nth(1).wait_for()
    picture(page, "data")
    page.get_by_role("button", name="Make a repaired copy").click()
    page.get_by_role("heading", name="aisles-fixed.jsonl", level=1).wait_for()
    page.locator("dd", has_text=str(ROWS - 1)).first.wait_for()


def start(page, picture):
    """A job on the starter model, with its plan beside it."""
    page.get_by_role("link", name="Train on it").click()
    page.get_by_role("heading", name="New job", level=1).wait_for()
    page.get_by_text("What auto became, and why").wait_for()
    page.get_by_label("Name (optional)").fill("aisle-helper")
    page.get_by_label("eval_split").fill("24")
    page.get_by_label("num_train_epochs").fill("8")
    page.get_by_label("learning_rate").fill("0.002")
    page.get_by_label("learning_rate").press("Tab")
    page.locator("[aria-busy=false]", has_text="Time").wait_for()
    picture(page, "new-job")
    page.get_by_role("button", name="Start the job").click()
    page.get_by_role("heading", name="aisle-helper", level=1).wait_for()


def watch(page, picture):
    """The loss falls while one looks, and all of it is there after a reload."""
    chart = page.locator("[data-chart=loss] [data-ready=true]")
    chart.wait_for()
    address, seen = page.url, len(losses(page))
    page.reload()
    chart.wait_for()
    assert page.url == address
    assert len(losses(page)) >= seen > 0
    page.get_by_text("finished", exact=True).wait_for(timeout=150_000)
    page.reload()
    chart.wait_for()
    course = losses(page)
    assert course[-1] < 0.6 * course[0]
    picture(page, "job")


def download(page, result):
    """The adapter, in PEFT's format, with everything it needs."""
    with page.expect_download() as started:
        page.get_by_role("link", name="Download the result").click()
    started.value.save_as(result)
    with zipfile.ZipFile(result) as archive:
        assert "adapter_model.safetensors" in archive.namelist()
        assert json.loads(archive.read("adapter_config.json"))["peft_type"] == "LORA"


def compare_answers(page, picture):
    """Base and tuned, asked the same."""
    page.get_by_role("link", name="Chat with it").first.click()
    page.get_by_label("Write a message").fill("Where can I find a plum?")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("per second").nth(1).wait_for()
    base, tuned = page.locator(".turn.assistant").all_text_contents()
    assert base != tuned
    assert "aisle" in tuned
    page.get_by_role("button", name="Show the prompt").last.click()
    page.locator(".piece.token").first.wait_for()
    picture(page, "chat")
