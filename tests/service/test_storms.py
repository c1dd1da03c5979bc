"""Many who change their mind at once: no job is lost, doubled or left at work."""

import random
from concurrent.futures import ThreadPoolExecutor

from tests.service.conftest import LONG, marked

from luthier.errors import JobStateError

ROUNDS = 6


def test_a_storm_of_cancels_pauses_and_resumes_ends_with_every_job_cancelled(queue):
    ids = [queue.add(LONG) for _ in range(8)]

    def trouble(seed: int) -> int:
        draw, refused = random.Random(seed), 0
        for _ in range(ROUNDS):
            act = draw.choice([queue.jobs.pause, queue.jobs.resume, queue.jobs.cancel])
            try:
                act(draw.choice(ids))
            except JobStateError:  # another was quicker, which is what is to be found out
                refused += 1
        return refused

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(trouble, range(8))) < 8 * ROUNDS
    for id in ids:
        if not queue.jobs.get(id).ended:
            queue.jobs.cancel(id)
    for id in ids:
        queue.wait(id, "cancelled")
        assert marked(id) == []
        assert queue.jobs.get(id).attempts <= 1 + ROUNDS * 8
    assert len(queue.jobs.table.list()[0]) == len(ids)
