"""A data folder that was moved: its jobs, their files and runs are found again."""

import pytest
from tests.service.conftest import QUICK, ROW

from luthier.service.jobs import Jobs
from luthier.service.store import Store


@pytest.mark.parametrize("moved", [True, False])
def test_jobs_go_with_their_folder_and_stay_where_it_was_copied_from(tmp_path, moved):
    old, new = tmp_path / "old", tmp_path / "new"
    with Store(old) as store:
        jobs = Jobs(store)
        file = jobs.files.add([ROW], "rows.jsonl").id
        (old / "runs" / "earlier").mkdir(parents=True)
        job = jobs.create({**QUICK, "dataset": [file, "/elsewhere/rows.jsonl"]})
        jobs.pause(job.id)
        tuned = jobs.create({**QUICK, "model": str(old / "runs" / "earlier"), "dataset": file})
    old.rename(new)
    if not moved:
        old.mkdir()
    with Store(new) as store:
        jobs = Jobs(store)
        found = jobs.get(job.id)
        home = new if moved else old
        assert found.state == "paused"
        assert found.run_path == home / "runs" / job.run_path.name
        mine, other = found.settings["dataset"]
        assert mine.startswith(f"{home}/service/files/file-")
        assert other == "/elsewhere/rows.jsonl"
        assert jobs.get(tuned.id).settings["model"] == str(home / "runs" / "earlier")
        assert jobs.get(tuned.id).given["model"] == str(home / "runs" / "earlier")
