"""No deadlines: the machine is shared, and the first call of a test imports lazily."""

from hypothesis import settings

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
