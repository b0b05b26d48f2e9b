"""What the repository brings in from outside is pinned to its bytes, and what it gives away is as little as it can be."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from detect_secrets import SecretsCollection
from detect_secrets.settings import default_settings
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")

every_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


def text(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def pins(requirements: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", requirements, flags=re.M)
    return {canonicalize_name(name): version for name, version in found}


# --- packages ---------------------------------------------------------------------------------------------------------


def test_the_lock_has_the_pins_of_requirements_except_torch():
    asked, locked = pins(text("requirements.txt")), pins(text("requirements.lock"))
    del asked["torch"]
    command = text("requirements.lock").splitlines()[1].strip("# ")
    assert locked == asked, f"write requirements.lock anew: pip install uv; {command}"


def test_every_package_of_the_lock_has_hashes():
    entries = re.split(r"^(?=[\w.-]+==)", text("requirements.lock"), flags=re.M)[1:]
    assert len(entries) == len(pins(text("requirements.lock")))
    assert [entry.split(" ")[0] for entry in entries if not HASH.search(entry)] == []


def test_the_set_up_asks_for_every_hash():
    (recipe,) = re.findall(r"^\.venv/installed:.*\n((?:\t.*\n)+)", text("Makefile"), flags=re.M)
    installs = [line for line in recipe.replace("\\\n", "").splitlines() if "pip install" in line]
    # First what has hashes; then torch, which brings nothing but its own build's libraries; then our two packages, which are folders.
    locked, torch, ours = installs
    assert "--no-deps --require-hashes -r requirements.lock" in locked
    assert "torch==" in torch and " -r " not in torch
    assert "--no-deps" in ours and re.findall(r"-e \S+", ours) == ["-e .", "-e ./kexue_publish"]


@pytest.mark.parametrize("path", ["binder/requirements.txt", "tests/colab/requirements.txt"])
def test_where_there_are_no_hashes_every_version_is_fixed(path):
    lines = [line for line in text(path).splitlines() if line and not line.startswith(("#", "--extra-index-url", "."))]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


# --- the workflow -----------------------------------------------------------------------------------------------------


@every_workflow
def test_actions_are_pinned_to_a_commit_and_say_which_version_that_is(workflow):
    used = re.findall(r"^\s*(?:- )?uses: (.*)$", workflow.read_text("utf-8"), flags=re.M)
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


@every_workflow
def test_a_job_may_do_nothing_that_it_does_not_ask_for(workflow):
    said = yaml.safe_load(workflow.read_text("utf-8"))
    assert said["permissions"] == {}
    assert [name for name, job in said["jobs"].items() if not isinstance(job.get("permissions"), dict)] == []


def test_only_the_jobs_that_publish_may_write():
    jobs = yaml.safe_load(text(".github/workflows/book.yml"))["jobs"]
    writing = {
        name: {right for right, level in job["permissions"].items() if level == "write"} for name, job in jobs.items()
    }
    assert writing == {"test": set(), "notebooks": {"contents"}, "publish": {"pages", "id-token"}}
    # No stranger's pull request gets that far, and none of our own code runs with these rights.
    for name in ("notebooks", "publish"):
        assert jobs[name]["if"] == "github.ref == 'refs/heads/main' && github.event_name != 'pull_request'"
        assert "actions/checkout" not in str(jobs[name]["steps"])


def test_the_checkout_leaves_no_token_behind():
    steps = yaml.safe_load(text(".github/workflows/book.yml"))["jobs"]["test"]["steps"]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False]


def test_updates_are_proposed_for_actions_and_packages():
    updates = yaml.safe_load(text(".github/dependabot.yml"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "pip"}


# --- secrets ----------------------------------------------------------------------------------------------------------


def secrets(*paths: str) -> dict[str, list[str]]:
    found = SecretsCollection()
    with default_settings():
        for path in paths:
            found.scan_file(path)
    return {path: [f"line {secret.line_number}: {secret.type}" for secret in what] for path, what in found.data.items()}


def test_no_file_holds_a_secret(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "Makefile" in files
    assert secrets(*files) == {}


def test_a_secret_would_be_found(tmp_path):
    leak = tmp_path / "settings.py"
    leak.write_text(f'token = "ghp_{"aZ3kQ9xW" * 4}Lm4T"\n')
    (found,) = secrets(str(leak)).values()
    assert "line 1: GitHub Token" in found
