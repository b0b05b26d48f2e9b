"""Settings for all tests."""

from hypothesis import settings

# Two shared cores: a property may be slow at one moment without anything being wrong.
settings.register_profile("kexue", deadline=None)
settings.load_profile("kexue")
