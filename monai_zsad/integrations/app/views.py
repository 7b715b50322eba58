"""What the page shows of a result, as HTML."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from monai_zsad._version import __version__
from monai_zsad.integrations.app.choices import BundleChoice
from monai_zsad.integrations.app.jobs import Outcome
from monai_zsad.workflow import ScreenedCase
from monai_zsad.writers import UNFAMILIAR_WARNING

__all__ = [
    "FIRST_STEPS",
    "FORMATS",
    "candidate_table",
    "downloads",
    "header",
    "label",
    "measured",
    "message",
    "remedy",
    "report_frame",
    "verdict",
]

FORMATS = "NIfTI, NRRD, MetaImage, the files of a DICOM series, or a zip file."
"""What can be dropped."""

FIRST_STEPS = Markup(
    "<ol><li>Drop a scan, or use the sample scan.</li><li>Choose what it shows.</li><li>Press Screen.</li></ol>"
    "<p>You get an anomaly map, lesion candidates, scores and a report with a viewer. Without a graphics card, a scan "
    "takes about a minute with tiny_screening, and much longer with the large models.</p>"
)
"""What the page shows before the first run."""

_HEAD = ("candidate", "highest score", "volume (mm³)", "position of the peak, RAS (mm)")


def message(text: str, kind: str = "note") -> Markup:
    """A line about the state of the page.

    Args:
        text: one sentence.
        kind: ``"note"``, ``"done"`` or ``"problem"``.

    Example:
        >>> message("a < b")
        Markup('<p class="zsad-note">a &lt; b</p>')
    """
    role = Markup(' role="alert"') if kind == "problem" else ""
    return Markup('<p class="zsad-{}"{}>{}</p>').format(kind, role, _with_code(text))


def _with_code(text: str) -> Markup:
    """Text between backquotes becomes code that can be copied."""
    parts = [Markup("<code>{}</code>").format(part) if odd % 2 else part for odd, part in enumerate(text.split("`"))]
    return Markup("").join(parts)


def header() -> Markup:
    """What the page is."""
    return Markup(
        "<h1>monai-zsad</h1><p>Zero-shot anomaly detection for medical volumes. Version {}. For research only. "
        "Scans stay on the machine that runs this page, and are deleted when you close it.</p>"
    ).format(__version__)


def label(choice: BundleChoice) -> str:
    """Name of a bundle in the list.

    Args:
        choice: the bundle.
    """
    state = " (no weights published)" if choice.unpublished else " (weights missing)" if choice.missing else ""
    return f"{Path(choice.name).name}{state}"


def remedy(choice: BundleChoice) -> str:
    """What to do before a bundle can run; empty if nothing.

    Args:
        choice: the bundle.
    """
    return message(choice.remedy, "problem") if choice.remedy else ""


def measured(choice: BundleChoice) -> Markup:
    """What a bundle's model was measured to do.

    Args:
        choice: the bundle.
    """
    return message(choice.measured)


def verdict(outcome: Outcome, case: ScreenedCase | None) -> Markup:
    """Score and number of candidates of a case, and the problems of the run.

    Args:
        outcome: of the run.
        case: the case that is shown; None if there is none.
    """
    lines = [message(problem, "problem") for problem in outcome.problems]
    if outcome.cancelled:
        lines.append(message("The run was cancelled. There are no results."))
    if case is not None:
        count = len(case.candidates)
        found = "no candidate" if not count else "1 candidate" if count == 1 else f"{count} candidates"
        if case.is_done and case.unfamiliar:
            lines.append(message(f"{UNFAMILIAR_WARNING.capitalize()}.", "problem"))
        score = "no score" if case.volume_score is None else f"{case.volume_score:.3f}"
        lines.append(
            Markup(
                '<p class="zsad-done"><strong>{}</strong>: volume score <strong class="zsad-score">{}</strong>, {}'
                ", {:.0f} s.</p>"
            ).format(case.case, score, found, case.seconds)
        )
        if case.reason:
            lines.append(message(case.reason))
    return Markup("").join(lines)


def candidate_table(case: ScreenedCase) -> Markup:
    """The candidates, the most suspicious first.

    Args:
        case: the case, with results.
    """
    candidates = case.findings["candidates"]
    if not candidates:
        return message("No part of the anomaly map lies above the threshold.")
    cell = Markup("<td>{}</td>").format
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(text) for text in _HEAD)
    rows = [
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                cell(text)
                for text in (
                    found["id"],
                    f"{found['peak_score']:.3f}",
                    f"{found['volume_mm3']:.0f}",
                    ", ".join(f"{mm:.1f}" for mm in found["peak_ras_mm"]),
                )
            )
        )
        for found in candidates
    ]
    return Markup(
        '<div class="zsad-scroll" tabindex="0"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, Markup("").join(rows))


def report_frame(token: str, case: ScreenedCase) -> Markup:
    """The report of a case in a frame that cannot reach the page around it.

    Args:
        token: secret part of the address.
        case: the case.
    """
    if "report" not in case.files:
        return message("This run has written no report.")
    return Markup(
        '<iframe class="zsad-report" title="Report of {}" sandbox="allow-scripts allow-downloads allow-popups" '
        'src="{}"></iframe>'
    ).format(case.case, _address(token, case, case.files["report"].name))


def downloads(token: str, case: ScreenedCase) -> Markup:
    """Links to the results of a case.

    Args:
        token: secret part of the addresses.
        case: the case.
    """
    links = [("All results (zip)", "results.zip", f"{case.case}.zip")]
    for kind, text in (("anomaly_map", "Anomaly map (NIfTI)"), ("candidates", "Candidates (NIfTI)")):
        if kind in case.files:
            name = case.files[kind].name
            links.append((text, name, name if name.startswith(case.case) else f"{case.case}_{name}"))
    items = [
        Markup('<a class="zsad-button" href="{}" download="{}">{}</a>').format(_address(token, case, name), saved, text)
        for text, name, saved in links
    ]
    if "report" in case.files:
        address = _address(token, case, case.files["report"].name)
        items.append(
            Markup('<a class="zsad-button" href="{}" target="_blank" rel="noopener">Report in its own tab</a>').format(
                address
            )
        )
    return Markup('<p class="zsad-downloads">{}</p>').format(Markup(" ").join(items))


def _address(token: str, case: ScreenedCase, name: str) -> str:
    return f"results/{token}/{quote(case.case)}/{quote(name)}"
