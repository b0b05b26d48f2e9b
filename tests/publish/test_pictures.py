"""The committed pictures are what their code draws."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from kexue_publish.pictures import FOLDER

NUMBER = r"-?\d+\.\d+"
COMMITTED = Path(__file__).parents[2] / FOLDER


def draw(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kexue_publish.pictures"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def test_drawing_again_gives_the_committed_pictures(tmp_path):
    done = draw(tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = {path.name: path for path in (tmp_path / FOLDER).iterdir()}
    assert drawn.keys() == {path.name for path in COMMITTED.iterdir()}
    with Image.open(drawn.pop("social.png")) as preview:  # its letters depend on the fonts of the machine
        assert preview.size == (1200, 630)
    for name, path in drawn.items():
        ours, theirs = path.read_text("utf8"), (COMMITTED / name).read_text("utf8")
        assert re.sub(NUMBER, "", ours) == re.sub(NUMBER, "", theirs), name
        # Coordinates have one decimal, which another processor may round to the other side.
        numbers = (list(map(float, re.findall(NUMBER, text))) for text in (ours, theirs))
        assert next(numbers) == pytest.approx(next(numbers), abs=0.11), name


def test_without_chromium_the_drawings_are_there_and_the_message_says_what_is_missing(tmp_path):
    done = draw(tmp_path, CHROMIUM="", PATH="")
    assert done.returncode == 1
    assert "needs Chromium" in done.stderr
    assert (tmp_path / FOLDER / "favicon.svg").exists() and not (tmp_path / FOLDER / "social.png").exists()
