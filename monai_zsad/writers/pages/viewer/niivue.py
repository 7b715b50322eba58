"""NiiVue's JavaScript, taken from the installed package ``ipyniivue``.

The package holds NiiVue as one module of 5 MB, the front end of its Jupyter widget. The module exports only the widget,
``{initialize, render}``. There are two ways to use it in a plain page:

- Emulate the widget's model: its traits, its messages and the buffers of its volumes. All of this is private to
  ``ipyniivue``. It has changed with nearly every release, and it can only do what the widget does.
- Reach the class ``Niivue`` inside the module. Its methods are NiiVue's documented interface, and they are the same in
  all releases. Only its name is unknown, because the module is minified.

The second way is the sturdier one, and it is used here. The widget calls ``instance = new Class(...)`` and then
``instance.attachToCanvas(...)``: this gives the name of the class. One ``export`` at the end of the module makes the
class public; nothing else is changed. If this does not succeed with a release, there is no viewer, and the report keeps
its still images.

Others that were compared: the viewers of nilearn and brainsprite show one orthogonal view from a mosaic of slices; they
have no interpolation, no windows and no measures, and nilearn brings scikit-learn. NiiVue from npm would have to be
bundled when the wheel is built. Then a checkout without Node has no viewer, and ``make demo`` needs more than Python.
"""

from __future__ import annotations

import base64
import gzip
import re
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

__all__ = ["NiiVue", "installed_niivue"]

_PACKAGE = "ipyniivue"
# Higher levels take twice the time for a module that is 2 % smaller.
_LEVEL = 4


class NiiVue(NamedTuple):
    """NiiVue, ready for a page.

    Attributes:
        module: the module, compressed by gzip, in base64; it exports the class as ``Niivue``.
        version: version of NiiVue, or of the package that it is taken from.
        license: the text of its licence.
    """

    module: str
    version: str
    license: str


@cache
def installed_niivue() -> NiiVue | None:
    """The installed NiiVue; it is read and compressed once per process.

    Returns:
        None if ``ipyniivue`` is not installed, or if its module has an unknown structure.

    Example:
        >>> found = installed_niivue()
        >>> found is None or "BSD" in found.license
        True
    """
    folder = _folder()
    if folder is None:
        return None
    try:
        source = (folder / "static" / "widget.js").read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return None
    name = _class_name(source)
    if name is None:
        return None
    module = f"{source}\nexport {{ {name} as Niivue }};\n".encode()
    packed = gzip.compress(module, _LEVEL, mtime=0)
    return NiiVue(base64.b64encode(packed).decode("ascii"), _version(source), _license())


def _folder() -> Path | None:
    # The import of the package takes a second and needs Jupyter's widgets, so that it is only looked up.
    try:
        found = find_spec(_PACKAGE)
    except (ImportError, ValueError):
        return None
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else None


def _class_name(source: str) -> str | None:
    """The minified name of the class ``Niivue``; None unless there is exactly one."""
    names: set[str] = set()
    # A regular expression for the complete call would take half a minute for 5 MB.
    for call in re.finditer(re.escape(".attachToCanvas("), source):
        instance = re.search(r"(?<![\w$.])([A-Za-z_$][\w$]*)$", source[max(0, call.start() - 40) : call.start()])
        if instance and instance[1] != "this":
            made = re.compile(rf"(?<![\w$.]){re.escape(instance[1])}=new ([A-Za-z_$][\w$]*)\(")
            names |= {found[1] for found in made.finditer(source)}
    return names.pop() if len(names) == 1 else None


def _version(source: str) -> str:
    at = source.find('"@niivue/niivue"')
    own = re.search(r'version:\s*"(\d[\w.+-]*)"', source[at : at + 200]) if at >= 0 else None
    try:
        package = f"{_PACKAGE} {metadata.version(_PACKAGE)}"
    except metadata.PackageNotFoundError:
        package = _PACKAGE
    return f"NiiVue {own[1]} (from {package})" if own else f"NiiVue from {package}"


def _license() -> str:
    try:
        files = metadata.files(_PACKAGE) or []
        texts = [file.read_text() for file in files if file.name.upper().startswith("LICENSE")]
    except (metadata.PackageNotFoundError, OSError, UnicodeError):
        texts = []
    return next((text for text in texts if text.strip()), "BSD 2-Clause License. Copyright (c) Niivue")
