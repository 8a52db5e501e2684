"""Laws are tried without a time limit an example: two busy cores are no finding."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
