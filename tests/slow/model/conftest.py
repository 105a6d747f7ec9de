from tests.model.isolation import cache, intact  # noqa: F401  fixtures
