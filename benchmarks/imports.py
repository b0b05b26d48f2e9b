"""What does importing a module of kexue_utils cost, beyond NumPy and SymPy themselves?

    python benchmarks/imports.py

Every figure is the processor time of a fresh interpreter, the best of a few (on an idle machine, that of the clock); "more" is what is above an
interpreter that imports NumPy and SymPy. The last column says which optional packages came along: modules of the core bring none.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import sympy

REPETITIONS = 5
BASE = "import numpy, sympy"
OPTIONAL = ("IPython", "PIL", "ipywidgets", "matplotlib", "scipy", "torch", "tqdm")


def seconds(code):
    """Best of a few fresh interpreters that run `code`."""
    best = float("inf")
    for _ in range(REPETITIONS):
        start = os.times()
        subprocess.run([sys.executable, "-c", code], check=True)
        end = os.times()
        best = min(best, end.children_user - start.children_user + end.children_system - start.children_system)
    return best


def brought_along(module):
    code = f"import sys, {module}; print(*[name for name in {OPTIONAL} if name in sys.modules], sep=', ')"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main():
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, NumPy {numpy.__version__}, SymPy {sympy.__version__}\n")
    base = seconds(BASE)
    print(f"{'module':<24} {'s':>6} {'more':>6}  with")
    print(f"{'nothing':<24} {seconds('pass'):>6.2f}")
    print(f"{'numpy, sympy':<24} {base:>6.2f}")
    folder = Path(__file__).parents[1] / "kexue_utils"
    for module in sorted(f"kexue_utils.{path.stem}" for path in folder.glob("[!_]*.py")):
        took = seconds(f"{BASE}, {module}")
        print(f"{module:<24} {took:>6.2f} {took - base:>6.2f}  {brought_along(module)}")


if __name__ == "__main__":
    main()
