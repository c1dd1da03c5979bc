"""What `luthier jobs` draws."""

from datetime import datetime

from luthier.cli.commands.jobs import _brief


def test_moments_of_a_job_are_dates():
    shown = _brief({"id": "ftjob-a", "created_at": 1795388465.5, "attempts": 1, "ended_at": None})
    assert shown["created_at"].startswith("2026-11-2")
    assert datetime.fromisoformat(shown["created_at"]).timestamp() == 1795388465
    assert shown == {"id": "ftjob-a", "created_at": shown["created_at"], "attempts": 1}
