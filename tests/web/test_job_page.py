"""The buttons of a job do what they say, on the real server."""

from importlib.resources import files


def new_job(reader, **settings):
    """A job made through the API, as a program does it."""
    rows = (files("luthier") / "starter" / "data" / "sft_train.jsonl").read_bytes()
    session = reader.context.request.get("/api/session").json()
    headers = {"x-csrf-token": session["csrf"], "origin": reader.address}
    part = {"name": "rows.jsonl", "mimeType": "application/jsonl", "buffer": rows}
    sent = {"purpose": "fine-tune", "file": part}
    file = reader.context.request.post("/v1/files", multipart=sent, headers=headers).json()
    body = {"settings": {"model": "starter", "dataset": [file["id"]], **settings}, "name": "verbs"}
    made = reader.context.request.post("/api/jobs", data=body, headers=headers)
    assert made.ok, made.text()
    return made.json()["id"]


def test_pause_resume_finish_early_and_delete(visit):
    reader = visit()
    page = reader.go(f"job/{new_job(reader, num_train_epochs=60, eval_split=24)}")
    page.set_default_timeout(60_000)
    state = page.locator(".page-head .badge")
    page.get_by_role("button", name="Pause").click()
    state.get_by_text("paused").wait_for()
    page.get_by_role("button", name="Resume").click()
    state.get_by_text("running").wait_for()
    page.get_by_role("button", name="Finish now").click()
    page.get_by_role("dialog").get_by_role("button", name="Finish now").click()
    state.get_by_text("finished").wait_for()
    page.get_by_role("link", name="Log", exact=True).click()
    page.get_by_role("cell", name="paused", exact=True).first.wait_for()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Jobs", level=1).wait_for()
    assert page.get_by_role("link", name="verbs").count() == 0
