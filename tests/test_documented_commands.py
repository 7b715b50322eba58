"""Every block, command and option of the documents is run as typed. The others stand below, with the reason."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from monai_zsad.cli.main import app
from tests.documented import PAGES, ROOT, Block, blocks, headings, links, name_of, own_commands, wishes
from tests.networks.zoo import ARCHITECTURE
from tests.workshop import make_bundles, make_inputs, run, write_parts

LABEL = "needs the environment of MONAI Label: tests/integration/test_monailabel.py, where `make label-env` was run"
NETWORK = "needs a network"
DEPLOY = "needs the environment of MONAI Deploy: tests/integrations/test_deploy.py runs the application there"
OWN = "an environment of its own: tests/test_packaging.py makes one"
CHECKS = "runs these very checks: .ci/run"
# Commands, by their beginning; each entry must be needed.
NOT_EXECUTED = {
    "make demo": ".ci/run runs it; it runs `python -m monai_zsad demo`, which CONTRIBUTING.md names too",
    "make test": CHECKS,
    "python -m monai_zsad app": "waits for a browser; tests/integrations/app uses the page",
    "python -m monai_zsad screen 'https://HOST": "needs a server: tests/integration/test_dicomweb.py has one",
    "python -m monai_zsad store RESULTS https://HOST": "needs a server: tests/integration/test_pacs.py has one",
    "srun ": "needs a Slurm cluster; tests/integration/test_cohort.py runs several such processes on one machine",
    "pip install ": NETWORK,
    "pip download ": NETWORK,
    "git clone ": NETWORK,
    "cd monai-zsad": "the folder of the clone before it",
    "pip uninstall ": "would remove the package from the environment of the tests",
    "python3 -m venv zsad": OWN,
    "source zsad/bin/activate": OWN,
    "monai-zsad demo": OWN,
    "jupyter lab ": "waits for a browser; tests/notebooks runs the notebooks",
    "conda ": "needs conda",
    "docker ": "needs a Docker daemon; tests/test_installation.py checks the Dockerfile",
    "python -m monai_zsad weights fetch": f"{NETWORK}; tests/backbones/weights/test_download.py has a server",
    "python -m monai.bundle run --bundle_root bundles/tiny_screening --dataset_dir DATA": (
        "needs the scans that configs/train.yaml lists; tests/training/test_concepts.py trains the same network"
    ),
    "python -m monai.bundle trt_export": "needs a GPU: tests/bundles/test_exports.py runs it up to there",
    "python notebooks/execute.py": "runs for a quarter of an hour; tests/notebooks runs each by the same functions",
    "python -m venv label-env": NETWORK,
    "label-env/bin/": LABEL,
    "python -m venv deploy-env": NETWORK,
    "deploy-env/bin/": DEPLOY,
    "export MONAI_LABEL_DICOMWEB_USERNAME": "tests/integration/test_monailabel_orthanc.py",
}
PYTHON_NOT_EXECUTED = {"from monailabel.client": LABEL}
# Small networks and random weights, in place of large ones that must be downloaded.
IN_PYTHON = {
    "Crane()": f"Crane({ARCHITECTURE}, 56)",
    '"ViT-L-14-336:openai"': '"seed:0"',
    '"crane:mvtec_epoch5"': '"seed:0"',
}
# Options of a bundle's run, without their values.
OPTIONS_NOT_EXECUTED = {
    "--device": "needs a second GPU",
    "--calibration": "needs normal scans with the same words and weights: the block of docs/guides/p_values.md",
    "--weights#prior": "tests/backbones/test_priors.py reads such files",
}
SLOW = (
    "--workers",
    "NORMALS",
    "torchrun",
    "train.yaml",
    "compare ",
    "monai_zsad demo",
    "ComparedBundles",
    "Screener(",
    "result.score",
    "miniature_headct",
)
FAST_PAGES = ("README.md", "CONTRIBUTING.md", "docs/", "bundles/crane/", "monai_zsad/", "notebooks/")
# A run has one of each group.
TOGETHER = (
    {"plane", "fused_planes"},
    {"precision", "amp", "runtime", "adaptation"},
    {"overwrite", "resume"},
    {"image_size", "token_spacing_mm"},
    {"weights#image_adapter", "projection_relu"},
    {"prompt_set", "anatomy"},
)
BLOCKS = [block for page in PAGES for block in blocks(page)]


def _slow(block: Block) -> bool:
    return any(word in block.text for word in SLOW) or not block.page.startswith(FAST_PAGES)


def _parameters(language: str) -> list[Any]:
    found = [block for block in BLOCKS if block.language == language]
    return [pytest.param(block, id=block.title, marks=[pytest.mark.slow] if _slow(block) else []) for block in found]


def _reason(command: str) -> str | None:
    return next((why for start, why in NOT_EXECUTED.items() if command.startswith(start)), None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader types."""
    make_bundles(tmp_path / "bundles")
    monkeypatch.setenv("MONAI_ZSAD_OFFLINE", "1")
    return tmp_path


@pytest.mark.parametrize("block", _parameters("bash"))
def test_commands_run_as_they_are_typed(block: Block, folder: Path) -> None:
    executed = [command for command in block.commands if _reason(command) is None]
    if not executed:
        pytest.skip("; ".join(sorted({str(_reason(command)) for command in block.commands})))
    make_inputs(folder, "\n".join(executed))
    for command in executed:
        done = run(command, folder)
        assert done.code == 0, f"{command}\n{done.output}"
        assert "Traceback" not in done.output, done.output


@pytest.mark.parametrize("block", _parameters("python"))
def test_python_runs_as_it_is_typed(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why := next((why for start, why in PYTHON_NOT_EXECUTED.items() if block.text.startswith(start)), None):
        pytest.skip(why)
    make_inputs(folder, block.text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    text = block.text
    for typed, small in IN_PYTHON.items():
        text = text.replace(typed, small)
    exec(compile(text, block.page, "exec"), {})


def test_what_is_not_executed_stands_in_the_documents() -> None:
    commands = [command for block in BLOCKS if block.language == "bash" for command in block.commands]
    python = [block.text for block in BLOCKS if block.language == "python"]
    options = {word for page in PAGES for wish in wishes(page) for word in wish}
    assert not [start for start in NOT_EXECUTED if not any(command.startswith(start) for command in commands)]
    assert not [start for start in PYTHON_NOT_EXECUTED if not any(text.startswith(start) for text in python)]
    assert not [typed for typed in IN_PYTHON if not any(typed in text for text in python)]
    assert not OPTIONS_NOT_EXECUTED.keys() - options


def test_every_block_is_of_a_known_language() -> None:
    known = {"bash", "python", "", "bibtex", "yaml", "text"}
    assert {block.language for block in BLOCKS} <= known
    assert not [block.title for block in BLOCKS if not block.language and "python -m" in block.text]


# ---- options in tables ---------------------------------------------------------------------------------------------


def _pairs(wish: list[str]) -> dict[str, list[str]]:
    """``["--a", "1", "--b=2"]`` as ``{"--a": ["--a", "1"], "--b": ["--b=2"]}``, without those that are not executed."""
    found: dict[str, list[str]] = {}
    for word in wish:
        if word.startswith("--"):
            name = word.partition("=")[0]
            found[name] = []
        found[name].append(word)
    return {name: words for name, words in found.items() if name not in OPTIONS_NOT_EXECUTED}


def _groups(names: set[str]) -> set[str]:
    return {str(sorted(group)) for group in TOGETHER for name in names if name[2:] in group} | names


def packed(page: Path) -> list[dict[str, list[str]]]:
    """The options of a bundle's page, in as few runs as possible: each run has one value of an option."""
    runs: list[dict[str, list[str]]] = []
    for pairs in map(_pairs, wishes(page)):
        free = next((run for run in runs if not _groups(set(run)) & _groups(set(pairs))), None)
        if free is None:
            runs.append(pairs)
        else:
            free |= pairs
    return [run for run in runs if run]


def _option_runs() -> list[Any]:
    found = []
    for page in PAGES:
        if name_of(page).startswith("bundles/"):
            marks = [] if page.parents[1].name == "crane" else [pytest.mark.slow]
            found += [
                pytest.param(page.parents[1].name, options, id=f"{page.parents[1].name} {number}", marks=marks)
                for number, options in enumerate(packed(page))
            ]
    return found


@pytest.mark.parametrize(("bundle", "options"), _option_runs())
def test_options_run_as_they_are_typed(bundle: str, options: dict[str, list[str]], folder: Path) -> None:
    make_inputs(folder, " ".join(["SCANS", bundle, *(word for typed in options.values() for word in typed)]))
    own = f"bundles/{bundle}"
    words = ["python", "-m", "monai.bundle", "run", "--config_file", f"{own}/configs/inference.yaml"]
    words += ["--bundle_root", own, "--dataset_dir", "SCANS", "--output_dir", "RESULTS"]
    for name, typed in options.items():
        words += typed if len(typed) < 2 else [name, _existing(name, typed[1], folder / own, folder)]
    if "--weights#clip" in options and "--weights_activation" not in options and "seed:0" not in words:
        words += ["--weights_activation", "quick_gelu"]  # OpenAI's own file tells it
    done = run(shlex.join(words), folder)
    assert done.code == 0, f"{shlex.join(words)}\n{done.output}"
    assert " done in " in done.output


def _existing(name: str, value: str, bundle: Path, folder: Path) -> str:
    """A value as typed; of a weights file one that is there and fits."""
    part = name.removeprefix("--weights#")
    if part == name or value.startswith("seed:"):
        return value
    if part == "model":
        return str(bundle / "models" / "model.pt")
    files = write_parts(bundle, folder / "files")
    return str(files[part])


def test_packing_leaves_nothing_out() -> None:
    page = next(page for page in PAGES if name_of(page) == "bundles/crane/docs/README.md")
    found = [words for run in packed(page) for words in run.values()]
    assert sorted(found) == sorted(words for wish in wishes(page) for words in _pairs(wish).values())


# ---- commands of this package, wherever they stand -----------------------------------------------------------------


def commands_of(page: Path) -> list[str]:
    """Words of this package's commands on a page, those that are not executed as well."""
    typed = own_commands(page) + [line for block in blocks(page) if block.language == "bash" for line in block.commands]
    return [words for _, found, words in (line.partition(" -m monai_zsad ") for line in typed) if found]


def check_words(command: str) -> None:
    """Parse a command without running it; a wrong command or option raises."""
    words = shlex.split(command)
    current = typer.main.get_command(app)
    while hasattr(current, "commands") and words:
        current, words = current.commands[words[0]], words[1:]
    current.make_parser(typer.Context(current)).parse_args(words)


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=name_of)
def test_the_command_line_knows_every_option(page: Path) -> None:
    for command in commands_of(page):
        check_words(command)


def test_an_unknown_option_is_found() -> None:
    with pytest.raises(Exception, match="No such option: --kinds"):
        check_words("weights list --kinds prompts")


def test_tables_of_the_command_lines_own_options() -> None:
    command = typer.main.get_command(app).commands["label-server"]  # type: ignore[attr-defined]  # a group's
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    page = next(page for page in PAGES if name_of(page) == "monai_zsad/integrations/monailabel/README.md")
    assert not [word for wish in wishes(page) for word in wish if word.startswith("--") and word not in known]


# ---- links and the demo image --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_what_is_there(page: Path) -> None:
    for target, anchor in links(page):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in headings(file), f"{name_of(page)}: {target}#{anchor}"


def test_the_architecture_names_folders_and_modules_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = [path for path in re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", text) if path != "monai_zsad/"]
    assert len(named) > 20
    assert not [path for path in named if not (ROOT / path).exists() and not (ROOT / "monai_zsad" / path).exists()]


def test_the_demo_image_is_small_and_shown() -> None:
    image = ROOT / "docs" / "images" / "demo.png"
    assert 20_000 < image.stat().st_size < 200_000
    assert image.read_bytes().startswith(b"\x89PNG")
    assert ("docs/images/demo.png", "") in links(ROOT / "README.md")
