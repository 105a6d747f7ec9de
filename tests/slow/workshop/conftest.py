"""A workshop, and learners in it, for the tests here: started by the first test that asks."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tools.learner import Learner
from tools.load import arguments
from tools.workshop import Workshop, missing, workshop

NOT_FOR_LEARNERS = "of-whoever-started-it"  # something in the environment of the shell in which it was started


@pytest.fixture(scope="module")
def running():
    if reason := missing():
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTHER_SECRET", NOT_FOR_LEARNERS)
        with workshop("--learners", "10") as running:
            yield running


@pytest.fixture(scope="module")
def play():
    """Runs a coroutine; between two of them learners go on listening, as a browser does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def play(story: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(story, loop).result(600)

    yield play
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def learner(running: Workshop, play: Callable):
    """Makes a learner, in a browser of their own, who has a lesson open; `opened=False`: who has not come yet."""
    made = []

    def learner(name: str, opened: bool = True) -> Learner:
        made.append(play(new(name)))
        if opened:
            play(made[-1].open())
        return made[-1]

    async def new(name: str) -> Learner:
        return Learner(name, arguments([running.address, "--password", running.password]))

    yield learner
    for one in made:
        play(one.close())
