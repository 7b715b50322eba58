"""What MkDocs needs beside its plugins to make a site of documents that also work on GitHub (`make docs`).

Each text has one home. README, cards, changelog and the like stay where they are, and become pages of the site here.
Links are written as GitHub needs them, and are rewritten: to a page of the site, or to the file on GitHub.
"""

from __future__ import annotations

import functools
import logging
import posixpath
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from griffe import Extension, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/monai-zsad/monai-zsad"
_LOG = logging.getLogger("mkdocs.hooks")
# Pages whose home is not docs/, by their place in the site.
ELSEWHERE = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "guides/notebooks.md": "notebooks/README.md",
    "guides/monai_label.md": "monai_zsad/integrations/monailabel/README.md",
    **{
        f"bundles/{card.parents[1].name}.md": card.relative_to(ROOT).as_posix()
        for card in sorted((ROOT / "bundles").glob("*/docs/README.md"))
    },
}
_PLACES = {home: page for page, home in ELSEWHERE.items()}
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj):`(?:[^`<]*<)?(~?)([\w.]+)>?`")

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_UNTITLED = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose home is elsewhere."""
    for page, home in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / home)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrite the links of a page, except in blocks of code."""
    place = page.file.src_uri
    home = ELSEWHERE.get(place, f"docs/{place}")
    parts = _FENCED.split(markdown)
    blocks = [*_FENCED.findall(markdown), ""]
    rewritten = (_LINK.sub(lambda match: link(match[1], home, place), part) for part in parts)
    return "".join(text + block for text, block in zip(rewritten, blocks, strict=True))


def link(target: str, home: str, place: str) -> str:
    """A link of the file ``home``, for its page ``place``; what leads nowhere stays, and MkDocs reports it."""
    path, mark, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return target
    file = posixpath.normpath(posixpath.join(posixpath.dirname(home), path))
    goal = _PLACES.get(file) or file.removeprefix("docs/")
    if file in _PLACES or (file.startswith("docs/") and not file.endswith(".py") and (ROOT / file).is_file()):
        return posixpath.relpath(goal, posixpath.dirname(place) or ".") + mark + anchor
    if (ROOT / file).exists():
        return f"{REPOSITORY}/{'tree' if (ROOT / file).is_dir() else 'blob'}/main/{file}" + mark + anchor
    return target


class Roles(Extension):
    """References of docstrings, written for Sphinx, as links of the site; those to nothing are warnings."""

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        """Rewrite the docstrings of a loaded package."""
        for item in _walk(pkg):
            if item.docstring:
                # The parser knows the plural only, and takes an example without a title for a quotation.
                text = _EXAMPLE.sub("Examples:", item.docstring.value)
                text = _UNTITLED.sub(lambda match: "Examples:\n" + textwrap.indent(match[0], "    "), text)
                item.docstring.value = _ROLE.sub(functools.partial(_reference, item, pkg), text)


def _walk(item: Any) -> Iterator[Object]:
    yield item
    for member in item.members.values():
        if not member.is_alias:
            yield from _walk(member)


def _reference(item: Object, package: Any, match: re.Match[str]) -> str:
    short, name = match[1], match[2]
    shown = f"<code>{name.rpartition('.')[2] if short else name}</code>"
    full = _full_name(name, item)
    own, _, rest = full.partition(".")
    if own == package.path and rest and not _known(package, rest):
        _LOG.warning("%s: no object is named %s", item.path, name)
    # Optional, as some of what exists is private and not shown.
    return f'<autoref identifier="{full}" optional>{shown}</autoref>'


def _full_name(name: str, item: Object) -> str:
    if "." in name and name.split(".")[0].islower():
        return name
    try:
        return item.resolve(name)
    except Exception:  # noqa: BLE001 - a name of another library, or of a method: shown without a link
        return name


def _known(package: Any, path: str) -> bool:
    try:
        return package[path] is not None
    except KeyError:
        return False
