"""How many examples a law is tried with that wants more or fewer than others."""

from hypothesis import settings


def scaled(number: int) -> int:
    """Return how many examples to try under the profile in use, where `number` are meant for the whole suite."""
    return number * settings().max_examples // settings.get_profile("patient").max_examples
