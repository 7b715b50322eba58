"""What the documents tell a reader to type: their blocks, commands and tables of options."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    {
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "notebooks" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "bundles").glob("*/docs/README.md"),
        *(ROOT / "monai_zsad").rglob("README.md"),
    }
)
# A block between fences, or one set in by four spaces as the page of MONAI Label has them.
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SET_IN = re.compile(r"(?<=\n\n)((?: {4}.*\n)+)")
_PYTHON = re.compile(r"^(?:import|from) ", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of a page: ``bash``, ``python``, or of another language, which no one types."""

    page: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Lines of a shell, continued ones joined, without comments."""
        lines = re.sub(r" *\\\n *", " ", self.text).splitlines()
        stripped = (shlex.join(shlex.split(line, comments=True)) for line in lines)
        return [line for line in stripped if line]

    @property
    def title(self) -> str:
        """For the name of a test."""
        return f"{self.page}: {' '.join(self.text.split())[:60]}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(name_of(page), match[1], match[2]) for match in _FENCED.finditer(text)]
    for match in _SET_IN.finditer(_FENCED.sub("", text)):
        inner = re.sub(r"^ {4}", "", match[1], flags=re.MULTILINE)
        found.append(Block(name_of(page), "python" if _PYTHON.search(inner) else "bash", inner))
    return found


def wishes(page: Path) -> list[list[str]]:
    """Options in the rows of a page's tables, as words; those that stand side by side belong together.

    Of ``| faster | `--runtime openvino` `--precision bfloat16`, or `--amp true` |`` there are two.
    """
    found = []
    for row in re.findall(r"^\|.*\|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        for match in re.finditer(r"`--[^`]+`(?: `--[^`]+`)*", row):
            spans = re.findall(r"`([^`]+)`", match[0])
            found.append([word for span in spans for word in shlex.split(span)])
    return found


def own_commands(page: Path) -> list[str]:
    """Commands of this package between backticks in a page's text, which are read over and typed too."""
    prose = _SET_IN.sub("", _FENCED.sub("", page.read_text(encoding="utf-8")))
    # A command may be broken at the end of a line.
    return [" ".join(span.split()) for span in re.findall(r"`(python -m monai_zsad [^`]+)`", prose)]


def links(page: Path) -> list[tuple[str, str]]:
    """Targets within the project, relative to the page, and the heading that each names (empty where none)."""
    prose = _FENCED.sub("", page.read_text(encoding="utf-8"))
    found = (match[1].partition("#") for match in re.finditer(r"\]\(([^)\s]+)\)", prose))
    return [(target, anchor) for target, _, anchor in found if "://" not in target]


def headings(page: Path) -> set[str]:
    """Names of a page's headings as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
