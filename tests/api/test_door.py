"""Who may come in, under which name, and what every reply carries."""

import pytest

from .conftest import BASE, TOKEN

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


def operations(client):
    paths = client.get("/openapi.json").json()["paths"]
    return [(path, method.upper()) for path, of in paths.items() for method in of]


PUBLIC = {"/healthz", "/api/session", "/api/login"}


def test_every_route_and_method_needs_the_token(client, stranger):
    asked = operations(client)
    assert len(asked) > 40
    for path, _ in asked:
        for method in ("GET", "HEAD", "OPTIONS", *UNSAFE):
            if path in PUBLIC:
                continue
            answer = stranger.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_what_is_not_there_is_not_told_to_strangers(stranger):
    assert stranger.get("/api/anything").status_code == 401
    assert stranger.get("/v1/../api/jobs").status_code == 401


@pytest.mark.parametrize("token", ["wrong", "", "x" * 100_000, TOKEN + "x", TOKEN[:-1], "\xff"])
def test_a_wrong_token_is_refused(stranger, token):
    answer = stranger.get(
        "/v1/files", headers={"authorization": f"Bearer {token}".encode("latin-1")}
    )
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_token_in_the_address_counts_for_nothing(stranger):
    assert stranger.get(f"/v1/files?token={TOKEN}&api_key={TOKEN}").status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example:8080", "127.0.0.1:9090", "127.0.0.1", "localhost.evil.example", ""]
)
def test_another_host_is_refused(client, host):
    answer = client.get("/v1/files", headers={"host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"
    assert client.get("/", headers={"host": host}).status_code == 403


def test_every_reply_carries_the_headers(client, stranger):
    for answer in (client.get("/v1/files"), stranger.get("/v1/files"), stranger.get("/healthz")):
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "access-control-allow-origin" not in answer.headers


def test_login_gives_a_cookie_and_the_cookie_needs_csrf(stranger):
    answer = stranger.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    body = stranger.get("/api/session").json()
    assert body["authenticated"] is True
    assert stranger.get("/v1/files").status_code == 200
    refused = stranger.request("DELETE", "/v1/files/file-x")
    assert refused.json()["error"]["code"] == "csrf"
    allowed = stranger.request(
        "DELETE", "/v1/files/file-x", headers={"x-csrf-token": body["csrf"], "origin": BASE}
    )
    assert allowed.status_code == 404
    assert stranger.post("/api/logout", headers={"x-csrf-token": body["csrf"]}).status_code == 200
    assert stranger.get("/v1/files").status_code == 401


def test_a_login_link_works_once(app, stranger):
    code = app.parts.credentials.new_code()
    answer = stranger.get(f"/login?code={code}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    again = stranger.get(f"/login?code={code}", follow_redirects=False)
    assert (again.status_code, again.headers["location"]) == (303, "/")  # clicked once more
    stranger.cookies.clear()
    assert stranger.get(f"/login?code={code}", follow_redirects=False).status_code == 401
    assert stranger.get("/v1/files").status_code == 401


def test_guessing_at_the_login_is_slowed_and_then_stopped(stranger):
    answers = [stranger.post("/api/login", json={"token": f"guess {n}"}) for n in range(12)]
    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:9999"},
    ],
)
def test_another_site_changes_nothing(stranger, method, headers):
    session = stranger.post("/api/login", json={"token": TOKEN}).json()
    answer = stranger.request(
        method, "/api/jobs/x/cancel", headers={**headers, "x-csrf-token": session["csrf"]}
    )
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "foreign_origin"


def test_a_forged_or_old_cookie_is_no_cookie(app, stranger, monkeypatch):
    good = app.parts.credentials.new_session()
    end, nonce, signature = good.split(".")
    forged = f"{int(end) + 10**6}.{nonce}.{signature}"
    for cookie in (forged, "x", "..", f"{end}.{nonce}.", "9" * 5000):
        answer = stranger.get("/v1/files", headers={"cookie": f"luthier_session={cookie}"})
        assert answer.status_code == 401
    assert (
        stranger.get("/v1/files", headers={"cookie": f"luthier_session={good}"}).status_code == 200
    )
    monkeypatch.setattr("time.time", lambda: int(end) + 1.0)
    assert (
        stranger.get("/v1/files", headers={"cookie": f"luthier_session={good}"}).status_code == 401
    )


def test_a_path_that_is_a_view_leads_to_it(stranger):
    answer = stranger.get("/job/ftjob-x", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/#/job/ftjob-x")
    assert stranger.get("/nothing.js").status_code == 404
