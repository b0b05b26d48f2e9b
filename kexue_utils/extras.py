"""Optional packages: imported where they are used, or one line that says what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed_by"]

# The extra of kexue-utils that brings a package, which stands here as it is imported.
EXTRAS = {
    "IPython": "widgets",
    "PIL": "widgets",
    "ipywidgets": "widgets",
    "matplotlib": "widgets",
    "scipy": "science",
    "torch": "torch",
    "tqdm": "torch",
}


@contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Around imports of optional packages: one that is missing is an ImportError that says what to install.

    Parameters
    ----------
    what : the function or module that does not work without.

    Raises
    ------
    ImportError : one of `EXTRAS` is not installed. A package that is there but broken keeps its own error.

    Examples
    --------
    >>> with needed_by("explore"):
    ...     raise ModuleNotFoundError(name="ipywidgets")  # as an import does where it is not installed
    Traceback (most recent call last):
    ...
    ImportError: explore needs ipywidgets: pip install "kexue-utils[widgets]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        message = f'{what} needs {error.name}: pip install "kexue-utils[{EXTRAS[error.name]}]"'
        raise ImportError(message, name=error.name) from None
