"""Results of a case in 3D Slicer, without a server: a scene to drag into it, or to send to a running Slicer."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.writers import CaseLayout, atomic_path

__all__ = ["send_case", "write_colour_table", "write_scene"]

_COLOURS = 256
_HEAT, _SEGMENTATION, _TABLE, _SCENE = "anomaly", "candidates", "heat", "slicer"
_SCAN = "scan.nii.gz"
# What Slicer loads as one volume by the name of one file.
_LOADED_BY_SLICER = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def write_colour_table(path: str | os.PathLike[str]) -> Path:
    """Write a colour table for heat maps, from transparent black over violet and orange to opaque yellow.

    Slicer's own colour tables are opaque: a heat map would hide the scan below it.

    Args:
        path: file to write. Its name ends in ``.ctbl``, the ending of Slicer's colour tables.

    Returns:
        ``path``.

    Raises:
        ConfigurationError: if the name has another ending.
        OutputError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> file = write_colour_table(Path(tempfile.mkdtemp()) / "heat.ctbl")
        >>> file.read_text().splitlines()[2]
        '0 0.000 0 0 4 0'
    """
    from matplotlib import colormaps

    target = Path(path)
    if target.suffix != ".ctbl":
        raise ConfigurationError(f"path={str(path)!r}: the name of a colour table must end in .ctbl")
    lines = [f"# Color table file {target.name}", f"# {_COLOURS} values"]
    for index in range(_COLOURS):
        share = index / (_COLOURS - 1)
        red, green, blue, _ = (round(255 * part) for part in colormaps["inferno"](share))
        lines.append(f"{index} {share:.3f} {red} {green} {blue} {round(255 * min(1.0, 2 * share))}")
    with atomic_path(target) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def write_scene(
    folder: str | os.PathLike[str],
    scan: str | os.PathLike[str] | None = None,
    series: str | int | None = None,
) -> Path:
    """Write ``slicer.mrml`` and ``heat.ctbl`` into the folder of a case.

    Drag the scene into Slicer. It shows the scan, the heat map over it with colours from 0 to 1, and the candidates as
    a segmentation, if the case has one.

    Args:
        folder: folder of a case, as ``screen`` writes it. It holds ``anomaly.nii.gz`` and, with
            ``--set seg_nrrd=true``, ``candidates.seg.nrrd``. The scene names these files by relative paths, so
            that the folder can be moved.
        scan: the scan to show below the heat map. Of a volume file that Slicer loads, the scene keeps the absolute
            path. A DICOM folder, an archive or another file is copied to ``scan.nii.gz`` in ``folder``.
        series: which DICOM series of ``scan``, as for :func:`~monai_zsad.data.find_scans`.

    Returns:
        The file of the scene.

    Raises:
        InputError: if the heat map or the scan is missing, or there are several scans.
        OutputError: if a file cannot be written.
    """
    files = _files(folder)
    shown_scan = None if scan is None else _scan_file(scan, Path(folder), series)
    write_colour_table(files[_TABLE])
    scene = ElementTree.Element("MRML", version="Slicer5", userTags="")
    _node(scene, "ColorTableStorage", "vtkMRMLColorTableStorageNode901", fileName=files[_TABLE].name)
    colours = _node(
        scene,
        "ColorTable",
        "vtkMRMLColorTableNode901",
        references="storage:vtkMRMLColorTableStorageNode901;",
        name="Anomaly",
        type="14",
        numcolors=str(_COLOURS),
    )
    heat = _volume(scene, 902, files[_HEAT].name, f"{_case(folder)} anomaly", colour=colours, window="1", level="0.5")
    shown = {"foregroundVolume": heat}
    if shown_scan is not None:
        beside = shown_scan.parent == files[_SCENE].parent
        source = shown_scan.name if beside else str(shown_scan)
        shown = {"backgroundVolume": _volume(scene, 903, source, _case(folder)), **shown}
    if files[_SEGMENTATION].is_file():
        _segmentation(scene, files[_SEGMENTATION].name, f"{_case(folder)} candidates")
    for view in ("Red", "Yellow", "Green"):
        _node(
            scene,
            "SliceComposite",
            f"vtkMRMLSliceCompositeNode{view}",
            references="".join(f"{role}:{volume};" for role, volume in shown.items()),
            singletonTag=view,
            layoutName=view,
            foregroundOpacity="0.6",
            linkedControl="1",
        )
    ElementTree.indent(scene)
    with atomic_path(files[_SCENE]) as temporary:
        ElementTree.ElementTree(scene).write(temporary, encoding="utf-8", xml_declaration=True)
    return files[_SCENE]


def send_case(
    folder: str | os.PathLike[str],
    scan: str | os.PathLike[str] | None = None,
    series: str | int | None = None,
    *,
    port: int = 2016,
) -> list[str]:
    """Load heat map and candidates of a case into a 3D Slicer that runs on this machine.

    The package slicerio sends the files to Slicer's module "Web Server".

    Args:
        folder: folder of a case, as for :func:`write_scene`.
        scan: the scan to load first, as for :func:`write_scene`.
        series: which DICOM series of ``scan``.
        port: port of the module "Web Server"; its Slicer API must be enabled.

    Returns:
        Ids of the nodes in Slicer.

    Raises:
        ConfigurationError: if slicerio is not installed.
        InputError: if a file is missing, no Slicer answers, or it cannot load a file.
    """
    try:
        from slicerio import server
    except ImportError as error:
        raise ConfigurationError("slicerio is not installed: run `pip install slicerio`") from error
    files = _files(folder)
    shown_scan = None if scan is None else _scan_file(scan, Path(folder), series)
    write_colour_table(files[_TABLE])
    before, server.SERVER_PORT = server.SERVER_PORT, port
    try:
        if not server.is_server_running():
            raise InputError(
                f"no 3D Slicer answers on port {port}: open its module Web Server, enable the Slicer API and start it"
            )
        made: list[str] = []
        if shown_scan is not None:
            made += _load(server, shown_scan, "VolumeFile", name=_case(folder))
        table = _load(server, files[_TABLE], "ColorTableFile")
        made += table
        colour = {"colorNodeID": table[0]} if table else {}
        made += _load(server, files[_HEAT], "VolumeFile", name=f"{_case(folder)} anomaly", **colour)
        if files[_SEGMENTATION].is_file():
            made += _load(server, files[_SEGMENTATION], "SegmentationFile", name=f"{_case(folder)} candidates")
        return made
    finally:
        server.SERVER_PORT = before


def _scan_file(scan: str | os.PathLike[str], folder: Path, series: str | int | None) -> Path:
    """A file of the scan that Slicer loads: the scan itself, or a copy in the folder of the case."""
    from monai_zsad.data import ScanReader, find_scans
    from monai_zsad.writers import AtomicNibabelWriter

    path = Path(scan).expanduser()
    if path.is_file() and path.name.lower().endswith(_LOADED_BY_SLICER):
        return path.resolve()
    records = find_scans(path, series=series)
    if len(records) > 1:
        names = ", ".join(str(record["case"]) for record in records[:3])
        raise InputError(
            f"{path} holds {len(records)} scans ({names} ...): give the folder or the file of one, or choose a DICOM "
            "series by --series"
        )
    reader = ScanReader()
    values, meta = reader.get_data(reader.read(records[0]["image"]))
    writer = AtomicNibabelWriter()
    writer.set_data_array(values, channel_dim=None)
    writer.set_metadata({"affine": meta["affine"]}, resample=False)
    writer.write(folder.resolve() / _SCAN)
    return folder.resolve() / _SCAN


def _load(server: Any, path: Path, kind: str, **properties: str) -> list[str]:
    try:
        return list(server.file_load(str(path.resolve()), kind, properties or None, auto_start=False) or [])
    except (RuntimeError, OSError) as error:
        raise InputError(f"3D Slicer cannot load {path} ({error}): see Slicer's error log") from error


def _case(folder: str | os.PathLike[str]) -> str:
    return Path(folder).resolve().name


def _files(folder: str | os.PathLike[str]) -> dict[str, Path]:
    own = Path(folder).resolve()
    endings = {_HEAT: ".nii.gz", _SEGMENTATION: ".seg.nrrd", _TABLE: ".ctbl", _SCENE: ".mrml"}
    files = {what: CaseLayout(own.parent, what, ending).filename(subject=own.name) for what, ending in endings.items()}
    if not files[_HEAT].is_file():
        raise InputError(f"{files[_HEAT]} is missing: give the folder of one case, as `screen` writes it")
    return files


def _node(scene: ElementTree.Element, tag: str, identity: str, **attributes: str) -> str:
    attributes = {"name": identity, **attributes}
    ElementTree.SubElement(scene, tag, {"id": identity, **attributes})
    return identity


def _volume(
    scene: ElementTree.Element,
    number: int,
    file: str,
    name: str,
    colour: str = "vtkMRMLColorTableNodeGrey",
    **window: str,
) -> str:
    storage, display = f"vtkMRMLVolumeArchetypeStorageNode{number}", f"vtkMRMLScalarVolumeDisplayNode{number}"
    _node(scene, "VolumeArchetypeStorage", storage, fileName=file, centerImage="0", singleFile="1")
    automatic = "0" if window else "1"
    _node(
        scene,
        "VolumeDisplay",
        display,
        references=f"color:{colour};",
        interpolate="1",
        autoWindowLevel=automatic,
        **window,
    )
    references = f"display:{display};storage:{storage};"
    return _node(scene, "Volume", f"vtkMRMLScalarVolumeNode{number}", references=references, name=name)


def _segmentation(scene: ElementTree.Element, file: str, name: str) -> None:
    storage, display = "vtkMRMLSegmentationStorageNode904", "vtkMRMLSegmentationDisplayNode904"
    _node(scene, "SegmentationStorage", storage, fileName=file)
    _node(scene, "SegmentationDisplay", display, visibility="true", opacity="1", Visibility2DFill="false")
    references = f"display:{display};storage:{storage};"
    _node(scene, "Segmentation", "vtkMRMLSegmentationNode904", references=references, name=name)
