"""HTML pages from templates, and the text form of values in them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["NOTHING", "TIMES", "decimal", "nested", "render", "shown"]

NOTHING = "\N{EN DASH}"
TIMES = " \N{MULTIPLICATION SIGN} "

_HOME = "monai_zsad.writers.pages"


def render(template: str, values: Mapping[str, Any], package: str = _HOME) -> str:
    """A page that loads no other files: style, script and images are part of it.

    All values are escaped, so that no text of a scan or a file becomes HTML.

    Args:
        template: file name in the folder ``templates`` of the package.
        values: values by the names that the template uses.
        package: dotted name of the package; the templates of this package can be extended by those of others.

    Returns:
        The HTML.

    Raises:
        jinja2.UndefinedError: if the template uses a name that ``values`` does not have.

    Example:
        >>> names = ("alarm", "run", "settings", "tiles", "rows", "undone", "left_out")
        >>> page = render("index.html.j2", {"title": "<b>", **dict.fromkeys(names, "")})
        >>> "<h1>&lt;b&gt;</h1>" in page
        True
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    folders = ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, _HOME))])
    environment = Environment(
        loader=folders,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"shown": shown, "nested": nested}
    return environment


def nested(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Names and values in one list; the names of nested values are joined by dots.

    Args:
        values: values by name. A value may itself be a dictionary.
        above: prefix of each name.

    Returns:
        Pairs of name and value.

    Example:
        >>> nested({"method": "crane", "prompts": {"set": "medical"}})
        [('method', 'crane'), ('prompts.set', 'medical')]
    """
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += nested(value, f"{above}{name}.")
        else:
            rows.append((f"{above}{name}", value))
    return rows


def shown(value: Any) -> str:
    """A value as text: numbers with six digits, lists with commas, a dash for an empty value.

    Args:
        value: value of any type.

    Returns:
        The text, not yet escaped.

    Example:
        >>> shown([0.5, True]), shown(1 / 3)
        ('0.5, yes', '0.333333')
    """
    if value is None or value in ("", [], {}, ()):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return str(value)


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with a fixed number of decimals, or a dash for None.

    Args:
        value: the number.
        digits: number of decimals.

    Returns:
        The text.

    Example:
        >>> decimal(0.25, 2)
        '0.25'
    """
    return NOTHING if value is None else f"{value:.{digits}f}"
