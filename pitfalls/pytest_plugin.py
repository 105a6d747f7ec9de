"""The inspector in tests: `pytest --pitfalls` for all of them, the fixture `pitfalls_watch` for one.

An error fails the test that made the call; warnings and notes stand in its report where it fails anyway, and are
counted at the end. `@pytest.mark.pitfalls_ignore("rule", …)` and `--pitfalls-ignore=rule,…` leave rules out.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from pitfalls.inspector.anywhere import LateWatch
from pitfalls.language import _, directed, ngettext

if TYPE_CHECKING:
    from pitfalls.inspector.watcher import Calls

COUNTED = pytest.StashKey[Counter[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pitfalls", _("mistakes in text generation with transformers"))
    group.addoption("--pitfalls", action="store_true", help=_("watch every generate call; errors fail the test"))
    group.addoption(
        "--pitfalls-ignore", metavar="RULES", default="", help=_("names of rules to leave out, with commas")
    )
    group.addoption("--pitfalls-only", metavar="RULES", default="", help=_("names of the only rules, with commas"))


def pytest_configure(config: pytest.Config) -> None:
    ignores = _("rules of pitfalls to leave out in this test")
    config.addinivalue_line("markers", f"pitfalls_ignore(*rules): {ignores}")
    config.stash[COUNTED] = Counter()


@pytest.fixture
def pitfalls_watch(request: pytest.FixtureRequest) -> Iterator["Calls"]:
    """The generate calls of this test, recorded and checked; errors fail it."""
    from pitfalls.inspector.watching import watch

    with watch(**_options(request.node)) as calls:
        yield calls


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    yield from _watched(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    yield from _watched(item)


def _watched(item: pytest.Item) -> Iterator[None]:
    """Run a part of a test; every block is closed before its calls are judged."""
    watched = LateWatch(**_options(item)) if item.config.getoption("pitfalls") else None
    calls = getattr(item, "funcargs", {}).get("pitfalls_watch")
    try:
        with watched or nullcontext():
            yield
    finally:
        calls = calls if watched is None else watched.calls
        if calls is not None and calls.report:
            item.config.stash[COUNTED].update({(finding.severity, finding.rule) for finding in calls.report})
            item.add_report_section("call", "pitfalls", calls.summary())
    made = [call.report for call in calls or () if call.error is None]  # what raised was caught, or fails anyway
    if any(finding.severity == "error" for report in made for finding in report):
        pytest.fail(f"pitfalls: {calls.summary()}", pytrace=False)


def _options(item: Any) -> dict[str, list[str]]:
    asked = {name: item.config.getoption(f"pitfalls_{name}") for name in ("only", "ignore")}
    names = {name: [each for each in rules.split(",") if each] for name, rules in asked.items()}
    names["ignore"] += [rule for mark in item.iter_markers("pitfalls_ignore") for rule in mark.args]
    return names


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    counted = config.stash[COUNTED]
    if counted:
        terminalreporter.section("pitfalls")
        for (severity, rule), tests in sorted(counted.items()):
            told = ngettext(
                "{severity}: {rule} in {n} test",
                "{severity}: {rule} in {n} tests",
                tests,
                severity=_(severity),
                rule=rule,
            )
            terminalreporter.line(directed(told))
