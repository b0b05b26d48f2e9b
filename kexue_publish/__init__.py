"""What turns the notebooks into a site: Sphinx extensions, one module each, and the parallel executor.

``kexue_publish`` in the list of Sphinx extensions switches on every module here that has a ``setup``.
Nothing in this package is imported by a notebook or by ``kexue_utils``.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Set up the extensions of this package, in alphabetical order."""
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        if hasattr(importlib.import_module(module.name), "setup"):
            app.setup_extension(module.name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
