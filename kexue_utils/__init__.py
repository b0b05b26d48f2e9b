"""What the book's notebooks import: evidence for equations, slider figures, training, and one module for each subject.

``import kexue_utils`` imports none of them, so that it costs nothing; import the module that you need, for example
``from kexue_utils import evidence, directions``.
"""

__version__ = "0.1.0"
