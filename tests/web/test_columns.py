"""A file of one's own in the page: columns chosen from menus, a template, kept with the file."""

import json

import pytest
from tests.web.browsing import TOKEN, violations

LINES = "".join(
    f"Berapa {n}+2?,{n},{n + 1},{n + 2},C,hitung\n" for n in range(24)
)  # a multiple-choice table with Indonesian names
CSV = "soal,pilihan_a,pilihan_b,pilihan_c,jawaban,catatan\n" + LINES


@pytest.fixture
def uploaded(chromium, server):
    def upload(reader, name, text):
        file = {"name": name, "mimeType": "text/csv", "buffer": text.encode()}
        answer = reader.context.request.post(
            "/v1/files",
            multipart={"purpose": "fine-tune", "file": file},
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        assert answer.ok, answer.text()
        return answer.json()["id"]

    return upload


def test_a_table_of_choices_is_mapped_previewed_kept_and_planned(visit, uploaded, axe):
    reader = visit(language="id", theme="dark", width=390)
    id = uploaded(reader, "soal.csv", CSV)
    page = reader.go(f"file/{id}")
    page.get_by_label("Templat pertanyaan").wait_for()  # offered, since the names say so
    template = page.get_by_label("Templat pertanyaan").input_value()
    assert template == "{soal}\nA. {pilihan_a}\nB. {pilihan_b}\nC. {pilihan_c}"
    assert page.get_by_label("Jawaban", exact=True).input_value() == "jawaban"
    page.locator("#columns .example").first.wait_for()
    assert "A. 0\nB. 1\nC. 2" in page.locator("#columns .pieces").first.inner_text()
    page.get_by_label("Templat pertanyaan").fill("Soal: {soal}\n1) {pilihan_a}")
    page.get_by_text("1) 0").first.wait_for()  # what the model will see follows
    assert violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Baca seperti ini").click()
    page.get_by_role("button", name="Lupakan cara baca ini").wait_for()

    page = reader.go(f"file/{id}")  # kept with the file
    page.get_by_label("Templat pertanyaan").wait_for()
    assert page.get_by_label("Templat pertanyaan").input_value().startswith("Soal: ")
    asked = reader.context.request.get(
        f"/v1/files/{id}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    kept = asked.json()["luthier"]["columns"]
    assert kept == {"prompt": "Soal: {soal}\n1) {pilihan_a}", "completion": "jawaban"}

    page = reader.go(f"new?data={id}")
    page.get_by_text("luthier train").first.wait_for()
    assert json.dumps(kept) in page.locator("pre.code").first.inner_text()
    page.locator("summary", has_text="Batch terbesar yang muat").click()
    page.get_by_role("button", name="Batch 32 pada", exact=False).first.click()
    assert "per_device_train_batch_size" in page.url  # a cell sets what it says
    page.locator(".batches [aria-pressed=true]").wait_for()
    page.locator(".stale").wait_for(state="detached")
    assert violations(page, axe) == []
    page = reader.turn("new?data=")  # the address decides what the form holds
    page.wait_for_function("document.getElementById('data').value === ''")
