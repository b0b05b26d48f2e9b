"""A small real book: three short chapters with evidence and a slider figure, built by the project's own Makefile."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PARTS = (
    *(
        "Makefile",
        "_config.yml",
        "requirements.txt",
        "requirements.lock",
        "references.bib",
        "pyproject.toml",
        "LICENSE",
        "binder",
    ),
    *("kexue_utils", "kexue_publish", "book/_static", "book/_templates", "book/chapters.yml"),
)
HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

"""
PAGES = {
    "book/index": "# A small book\n\n```{ledger-counts}\n```\n",
    "book/ledger": "# Ledger\n\n```{ledger}\n```\n",
    "book/asides/pi-day": r"""# TITLE

```{chapter-head}
```

The sum of the first $n$ odd numbers is a square:

$$
\sum_{k=1}^n (2k-1) = n^2.
$$ (eq-pi-odd)

```{code-cell} python3
import sympy as sp

from kexue_utils import style
from kexue_utils.evidence import prove
from kexue_utils.explore import explore

n, k = sp.symbols("n k", integer=True, positive=True)
prove("eq-pi-odd", sp.Sum(2 * k - 1, (k, 1, n)), n**2)
```

```{code-cell} python3
def draw(n):
    fig, ax = style.figure()
    ax.bar(range(1, n + 1), [2 * k - 1 for k in range(1, n + 1)])
    ax.set(xlim=(0, 5), ylim=(0, 9), xlabel="k", ylabel="2k − 1")
    return fig, f"the {n} bars together are {n**2}"


style.use()
explore(draw, n=range(1, 5), labels={"n": "number of terms n"}, alt="bars of height 1, 3, 5 and so on, {n} of them")
```
""",
    "book/losses/multilabel-softmax": r"""# TITLE

```{chapter-head}
```

A sum of exponentials, and its gradient by PyTorch:

$$
\frac{\partial}{\partial x_i} \ln\sum_j e^{x_j} = \softmax(x)_i.
$$ (eq-mlsoft-gradient)

```{code-cell} python3
import torch

from kexue_utils.evidence import numeric

generator = torch.Generator().manual_seed(1)
x = torch.randn(400, generator=generator, dtype=torch.double, requires_grad=True)
torch.logsumexp(x, 0).backward()
numeric("eq-mlsoft-gradient", x.grad, torch.softmax(x.detach(), 0), rtol=1e-12, why="400 terms in double precision", seed=1)
```
""",
    "book/geometry-probability/hubness": r"""# TITLE

```{chapter-head}
```

The mean square of a normal variable is its variance, here for a cloud that a matrix has turned:

$$
\E\, x^2 = 1.
$$ (eq-hub-square)

```{code-cell} python3
import numpy as np

from kexue_utils.evidence import sampled

turn = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 50)))[0]
x = np.random.default_rng(1).standard_normal((2000, 50)) @ turn
sampled("eq-hub-square", x.ravel() ** 2, 1.0, seed=1)
```
""",
}


class SmallBook:
    """The book in a folder of its own, with a `.venv` made of links, so that make has nothing to install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "_build/html"
        for part in PARTS:
            target = folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(ROOT / part, target)
        chapters = yaml.safe_load((folder / "book/chapters.yml").read_text("utf8"))["chapters"]
        titles = {chapter["slug"]: chapter["title"] for chapter in chapters}
        for page, text in PAGES.items():
            path = folder / f"{page}.md"
            path.parent.mkdir(exist_ok=True)
            if path.stem in titles:
                text = HEADER + text.replace("TITLE", titles[path.stem])
            path.write_text(text, "utf8")
        root, *others = PAGES
        toc = f"format: jb-book\nroot: {root}\nparts:\n- caption: Part\n  chapters:\n"
        (folder / "_toc.yml").write_text(toc + "".join(f"  - file: {page}\n" for page in others), "utf8")
        environment = folder / ".venv"
        environment.mkdir()
        for entry in Path(sys.prefix).iterdir():
            if entry.name != "installed":
                (environment / entry.name).symlink_to(entry)
        (environment / "installed").touch()

    def start(self, target: str = "book", **environment: str) -> subprocess.Popen[str]:
        """Start `make`, in a process group of its own; it imports the copies of the packages that lie in the folder."""
        path = os.pathsep.join(filter(None, (environment.pop("PYTHONPATH", ""), str(self.folder))))
        return subprocess.Popen(
            ["make", f"PYTHON={sys.executable}", target],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": path} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def build(self, **environment: str) -> str:
        """Run `make book` to its end, and return what it said."""
        process = self.start(**environment)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
        return out + err

    def files(self) -> dict[str, bytes]:
        """The files of the site, with the times taken out."""
        return {
            path.relative_to(self.site).as_posix(): timeless(path)
            for path in sorted(self.site.rglob("*"))
            if path.is_file()
        }

    def ledger(self) -> object:
        return json.loads(timeless(self.site / "ledger.json"))


def timeless(path: Path) -> bytes:
    """A file without the seconds that its checks took, and without the checksums of files that tell them."""
    content = path.read_bytes()
    if path.name == "ledger.json":
        return re.sub(rb'"seconds": [\d.e-]+', b'"seconds": 0', content)
    if path.suffix == ".html" or path.parent.name == "_evidence":
        content = re.sub(rb"(_evidence/[^?]*\.js\?v=)[0-9a-f]+", rb"\1", content)
        return re.sub(rb"(?:&lt; 0\.01|(?<=[> ])\d+(?:\.\d+)?) s(?=[<,;. ])", b"? s", content)
    return content
