"""What the tests of the pictures share."""

import pytest
from matplotlib import pyplot as plt

from tests.pictures.reading import call_of, step


@pytest.fixture(autouse=True)
def nothing_stays_open():
    before = plt.get_fignums()
    yield
    assert plt.get_fignums() == before


@pytest.fixture(scope="session")
def two_steps(tokenizer):
    """` Paris` is likeliest in both steps, and taken in the first; in the second, the fifteenth token is taken."""
    paris, the, city, rare = (tokenizer(text).input_ids[0] for text in (" Paris", " the", " city", " zebra"))
    shares = {paris: 0.7, the: 0.2, city: 0.05}
    steps = [step(tokenizer, shares, paris), step(tokenizer, shares, rare, 0.004)]
    return call_of(tokenizer, tokenizer("The capital is").input_ids, [[paris, rare]], steps=steps)
