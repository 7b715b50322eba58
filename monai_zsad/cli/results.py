"""``monai-zsad info``, ``calibrate``, ``report`` and ``store``: the series in a folder, and the results of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_zsad.errors import ConfigurationError, InputError, OutputError
from monai_zsad.result_files import STATUS_FOLDER, has_results
from monai_zsad.workflow.options.table import OPTIONS

if TYPE_CHECKING:
    from monai_zsad.data import FoundSeries

__all__ = ["calibrate", "info", "report", "store"]

# What `store` says about an object.
_SENT = {"stored": "stored", "present": "already there", "absent": "not there yet", "failed": "failed"}
_MOST_LISTED = 3
# So many inputs are listed one by one; of more, those with the same finding are counted.
_MOST_GROUPS = 12


def info(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="Volume file, folder with any subfolders, zip, CSV or JSON list, or DICOMweb query."
        ),
    ],
    series: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Choose DICOM series by UID, number, modality, part of the description; 4:2: its volume 2.",
        ),
    ] = None,
    repair: Annotated[
        list[str] | None, typer.Option(metavar="FAULT", help="As `screen --repair`: a fault to repair. Repeat.")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="As `screen --set accept=CODE`: a code to accept. Repeat.")
    ] = None,
    volume: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="As `screen --set volume=N`: one volume of a file with several."),
    ] = None,
    colour: Annotated[
        bool, typer.Option("--colour", help="Photographs are read in colour, as the CLIP bundles do.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="One line for each input, also of many; otherwise equal ones are counted.")
    ] = False,
) -> None:
    """List the scans at a path, and say which ones can be screened.

    Each scan is listed with modality, size and spacing, and with the reason why `screen` would leave it out or refuse
    it. Only headers are read, by the same checks as in `screen`. So what only the voxels show is not known here: a
    constant scan, many NaN, damaged compressed data. The exit status is 0 if at least one scan can be screened and no
    input is refused, otherwise 1.

    The descriptions are those in the files and may name a patient. `screen` writes none of them.

    Example: python -m monai_zsad info SCANS --series FLAIR
    """
    for option in OPTIONS:
        if option.name in ("accept", "repair"):
            option.parse((accept if option.name == "accept" else repair) or [])

    from monai_zsad.data import ReadOptions, find_studies

    options = ReadOptions(volume, accept=frozenset(accept or ()), repair=frozenset(repair or ()), colour=colour)
    found = find_studies(path, series, options)
    if not found:
        raise InputError(f"{path}: holds no scan; give a volume file, a DICOM folder, or a folder that holds such")
    groups = _alike(found)
    folded = not every and len(groups) > _MOST_GROUPS
    if every:
        for one in found:
            typer.echo("; ".join([f"{one.path}: {_facts(one)}", *_findings(one)]))
    elif folded:
        for group in _folded(found):
            _print_folded(group)
    else:
        for group in groups:
            _print_found(group)
    usable, refused = sum(one.is_usable for one in found), sum(bool(one.refused) for one in found)
    left_out = len(found) - usable - refused
    others = [f"{count} {what}" for count, what in ((refused, "refused"), (left_out, "left out")) if count]
    hint = "; --all lists each" if folded else ""
    typer.echo(", ".join([f"{usable} of {len(found)} can be screened", *others]) + hint)
    if refused or not usable:
        raise typer.Exit(1)


def _alike(found: Sequence[FoundSeries]) -> list[list[FoundSeries]]:
    """Many 2D images of one folder about which the same is said, together; every other input alone."""
    groups: dict[Hashable, list[FoundSeries]] = {}
    for number, one in enumerate(found):
        said = (one.path.parent, one.path.suffix, one.skipped, one.refused, one.warnings)
        groups.setdefault(number if one.uid or one.shape else said, []).append(one)
    few = [[one] for group in groups.values() if len(group) <= _MOST_LISTED for one in group]
    return sorted([*few, *(group for group in groups.values() if len(group) > _MOST_LISTED)], key=lambda g: g[0].path)


def _folded(found: Sequence[FoundSeries]) -> list[list[FoundSeries]]:
    """Inputs of one kind with the same finding together, in whichever folders they are."""
    groups: dict[Hashable, list[FoundSeries]] = {}
    for one in found:
        finding = one.code or one.skipped or one.refused
        kind = "" if one.uid else _ending(one)
        groups.setdefault((one.is_usable, bool(one.refused), finding, one.warning_codes, kind), []).append(one)
    # What can be screened comes first, then the most frequent findings.
    return sorted(groups.values(), key=lambda group: (not group[0].is_usable, -len(group)))


def _ending(one: FoundSeries) -> str:
    return "".join(one.path.suffixes[-2:]) if one.path.suffix == ".gz" else one.path.suffix


def _print_found(group: Sequence[FoundSeries]) -> None:
    one = group[0]
    several = f"{one.path.parent / f'*{one.path.suffix}'}: {len(group)} files"
    typer.echo(several if len(group) > 1 else f"{one.path}: {_facts(one)}")
    if one.files > 1:
        typer.echo(f"   {one.files} files, UID {one.uid}")
    for finding in _findings(one):
        typer.echo(f"   {finding}")


def _print_folded(group: Sequence[FoundSeries]) -> None:
    """One line about a group, one about its first input, and one for each finding."""
    one, count = group[0], len(group)
    if count <= _MOST_LISTED:
        for single in group:
            _print_found([single])
        return
    if one.uid:
        what = f"{count} DICOM series"
        found = Counter(series.modality or "no modality" for series in group)
        kinds = ", ".join(f"{modality} {number}" for modality, number in found.most_common())
        what += f" ({kinds})"
    else:
        what = f"{count} {_ending(one) or 'other'} files"
    folders = len({series.path.parent for series in group})
    typer.echo(f"{what}{f' in {folders} folders' if folders > 1 else ''}, such as {one.path}: {_facts(one)}")
    for finding in _findings(one):
        typer.echo(f"   {finding}")


def _facts(one: FoundSeries) -> str:
    size = " x ".join(str(n) for n in one.shape) or "size unknown"
    spacing = " x ".join(f"{mm:.3g}" for mm in one.spacing_mm)
    number = "" if one.number is None else f"series {one.number}" + (f":{one.part}" if one.part else "")
    facts = [number, one.modality, one.body_part, one.description, one.plane, size, spacing and f"{spacing} mm"]
    return ", ".join(fact for fact in facts if fact)


def _findings(one: FoundSeries) -> list[str]:
    code = f" ({one.code})" if one.code else ""
    found = [f"warning: {warning}" for warning in one.warnings]
    if one.refused:
        return [f"refused{code}: {one.refused}", *found]
    return [f"left out{code}: {one.skipped}", *found] if one.skipped else found


def calibrate(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Output folder of `screen` for scans that count as normal.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="JSON file to write, such as normal.json.")
    ],
    bundle: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the bundle, kept as a note in the file.")
    ] = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            metavar="RATE", help="Print the threshold for this rate of normal scans with a candidate. Repeatable."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a calibration file from results of normal scans.

    `screen --calibration FILE` then adds p-values. On average at most one of 20 normal scans of the same kind gets a
    p-value of 0.05 or less (split conformal prediction). First screen the normal scans with the options of the later
    runs, and with a low --threshold, so that their weak candidates are in the results too.

    Example: python -m monai_zsad calibrate RESULTS -o normal.json --alpha 0.05
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists: add --overwrite to replace it, or choose another --output")

    from monai_zsad.workflow.calibration import collect

    made = collect(results, bundle)
    wanted = [(rate, made.threshold(rate)) for rate in alpha or []]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output.parent} cannot be created ({error.strerror}): choose another --output") from error
    made.save(output)
    typer.echo(f"{made.n} reference scans, smallest p-value {1 / (made.n + 1):.3g}: {output}")
    for rate, threshold in wanted:
        above = "any candidate" if threshold == -float("inf") else f"a candidate with a peak above {threshold:.4f}"
        typer.echo(f"at most {rate:g} of normal scans have {above}")


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Output folder of `screen`.")],
    title: Annotated[str, typer.Option(metavar="TEXT", help="Title of the page.")] = "Anomaly screening",
) -> None:
    """Write the list of all results, index.html, again.

    Example: python -m monai_zsad report RESULTS --title "Night list"
    """
    from monai_zsad.writers import write_index

    if not title.strip():
        raise ConfigurationError("--title is empty: give a title")
    # An empty page would look as if nothing had been found.
    if results.is_dir() and not (results / STATUS_FOLDER).is_dir() and not any(map(has_results, results.iterdir())):
        raise InputError(f"{results}: holds no results; give the output folder of `screen`")
    typer.echo(str(write_index(results, title)))


def store(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Output folder of `screen --dicom seg,sr`.")],
    address: Annotated[
        str, typer.Argument(metavar="URL", help="Address of the DICOMweb service, such as https://HOST/dicom-web.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing; list the objects that the server does not have.")
    ] = False,
) -> None:
    """Send the DICOM results of all complete cases to a PACS with DICOMweb.

    The server is asked for each object first, and gets only what it does not have. So the command can be repeated at
    any time. The environment variables MONAI_ZSAD_DICOMWEB_... hold the login, as for `screen`. The exit status is 0 if
    nothing has failed, otherwise 1; 2 for wrong usage; 130 after Ctrl-C.

    Example: python -m monai_zsad store RESULTS https://HOST/dicom-web
    """
    from monai_zsad.data import store_results

    counts: Counter[str] = Counter()
    try:
        for one in store_results(results, address, dry_run=dry_run):
            counts[one.state] += 1
            if one.state != "present":
                typer.echo(f"{one.file}  {_SENT[one.state]}{one.reason and f': {one.reason}'}")
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command goes on", err=True)
        raise typer.Exit(130) from None
    finally:
        if counts:
            typer.echo(", ".join(f"{counts[state]} {said}" for state, said in _SENT.items() if counts[state]))
    if counts["failed"]:
        raise typer.Exit(1)
