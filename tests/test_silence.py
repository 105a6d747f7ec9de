"""Code that has no place to show them gets no log lines and no progress bars of transformers."""

import pytest
from transformers.utils import logging

from pitfalls.silence import silenced


def put(level: int, bars: bool) -> None:
    logging.set_verbosity(level)
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()


@pytest.fixture(autouse=True)
def own_settings():
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    yield
    put(*before)


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_it_is_silent_inside_and_the_readers_settings_come_back(level, bars):
    put(level, bars)
    with pytest.raises(KeyError), silenced():
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        raise KeyError
    assert logging.get_verbosity() == level and logging.is_progress_bar_enabled() == bars
