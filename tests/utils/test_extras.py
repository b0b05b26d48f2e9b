"""Facts about optional packages that are missing; what is said in an environment without any is in test_package."""

import pytest

from kexue_utils.extras import EXTRAS, needed_by


@pytest.mark.parametrize(("package", "extra"), EXTRAS.items())
def test_missing_package_is_one_line_with_its_extra(package, extra):
    with pytest.raises(ImportError) as caught, needed_by("draw"):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    assert str(caught.value) == f'draw needs {package}: pip install "kexue-utils[{extra}]"'
    assert caught.value.__suppress_context__, "the reader would see two errors"


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'somebody_elses'", name="somebody_elses"),
        ModuleNotFoundError("No module named 'torch.renamed'", name="torch.renamed"),
        ImportError("libcudart.so.12: cannot open shared object file", name="torch"),
    ],
    ids=["not one of the extras", "part of an installed package", "installed but broken"],
)
def test_what_no_extra_would_mend_keeps_its_own_error(error):
    with pytest.raises(ImportError) as caught, needed_by("draw"):
        raise error
    assert caught.value is error
