"""Every text that somebody else wrote is shown as text: in a real browser, no part of it is run."""

import json
from typing import Any

MARKUP = (
    '<img src=x onerror="window.run=1">',
    '"><svg onload="window.run=1">',
    "</script><script>window.run=1</script>",
    "javascript:window.run=1",
    "${window.run=1}{{constructor.constructor('window.run=1')()}}",
    '<a href="javascript:window.run=1" id=planted>link</a>',
)
ALL = " ".join(MARKUP)
LOOK = (
    "() => ({run: window.run, made: [...document.querySelectorAll('img, svg, script, a, iframe')]"
    ".filter(one => one.src?.toString().endsWith('/x') || one.getAttribute('onload')"
    " || one.id === 'planted' || one.getAttribute('href')?.startsWith('javascript:')).length})"
)


def send(reader: Any, method: str, path: str, **what: Any) -> dict[str, Any]:
    session = reader.context.request.get("/api/session").json()
    headers = {"x-csrf-token": session["csrf"], "origin": reader.address}
    answer = reader.context.request.fetch(path, method=method, headers=headers, **what)
    assert answer.ok or "cannot cancel" in answer.text(), answer.text()  # it may have ended
    return dict(answer.json())


def test_no_text_of_a_file_a_job_or_a_model_is_run(visit: Any) -> None:
    reader = visit()
    asked, said = {"role": "user", "content": ALL}, {"role": "assistant", "content": ALL}
    rows = json.dumps({"messages": [asked, said], MARKUP[0]: MARKUP[1]}) + "\n"
    content = (rows * 6 + MARKUP[0] + "\n").encode()  # the last line is no row, and is told
    name = MARKUP[0].replace("/", "") + ".jsonl"
    part = {"name": name, "mimeType": "application/jsonl", "buffer": content}
    file = send(reader, "POST", "/v1/files", multipart={"purpose": "fine-tune", "file": part})
    settings = {"model": "starter", "dataset": [file["id"]], "system_prompt": ALL, "max_steps": 2}
    body = {"settings": settings, "name": MARKUP[1], "metadata": {"note": ALL, MARKUP[5][:60]: "x"}}
    job = send(reader, "POST", "/api/jobs", data=body)
    places = ["", "jobs", f"job/{job['id']}", "data", f"data/{file['id']}", "new", "chat", "models"]
    places += [f"job/{MARKUP[0]}", f"model/{MARKUP[1]}", MARKUP[2], f"data/{MARKUP[0]}", "compare"]
    shown = ""
    for place in places:
        page = reader.go(place)
        page.wait_for_timeout(150)  # for what a handler would do after the text is drawn
        assert page.evaluate(LOOK) == {"run": None, "made": 0}, place
        shown += page.inner_text("body")
    for link in ("Settings", "Log", "Files", "Data"):
        page = reader.go(f"job/{job['id']}")
        found = page.get_by_role("link", name=link, exact=True)
        if found.count():
            found.first.click()
            reader.drawn()
            page.wait_for_timeout(150)
        assert page.evaluate(LOOK) == {"run": None, "made": 0}, link
        shown += page.inner_text("body")
    assert MARKUP[1] in shown  # it was there to be run
    assert "onerror" in shown
    send(reader, "POST", f"/api/jobs/{job['id']}/cancel")
    reader.problems = [one for one in reader.problems if "404" not in one and "400" not in one]
