"""The table of options: each is declared here, once.

The command line, the checks and their messages, the record of settings in findings and manifest, ``inference.yaml`` and
the table in ``docs/options.md`` are made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_zsad.data.codes import ACCEPTABLE, REPAIRABLE
from monai_zsad.errors import ConfigurationError
from monai_zsad.flags import REPORTS, parse_report
from monai_zsad.networks.runtimes.options import PRECISIONS
from monai_zsad.result_files import CASE_FILES
from monai_zsad.transforms.hu_windows import check_window
from monai_zsad.workflow.options.option import Flag, Option

__all__ = ["OPTIONS", "check_together"]

_DICOM_KINDS = tuple(file.postfix for kind, file in CASE_FILES.items() if kind.startswith("dicom_"))

# One entry reads as one line or two; the formatter would give each argument its own.
# fmt: off
OPTIONS: tuple[Option, ...] = (
    # Runs
    Option("overwrite", False, "replace results of the same cases", "Basic", "flag", flag=Flag("--overwrite")),
    Option("resume", False, "skip cases that are complete already", "Basic", "flag", flag=Flag("--resume")),
    # Input
    Option("series", None, "only this DICOM series: UID, number, modality, part of the description; 4:2: its volume 2",
           "DICOM", flag=Flag("--series", "TEXT")),
    Option("volume", None, "number of the volume, from 0, in a file with several: 4D NIfTI, enhanced DICOM", "Advanced",
           "integer", minimum=0, optional=True, decides="files"),
    Option("accept", [], "refusal codes to accept with a warning, such as \"['constant']\"", "Advanced", "list",
           choices=tuple(sorted(ACCEPTABLE)), decides="files"),
    Option("repair", [],
           "faults of DICOM series to repair: missing-slices, uneven-slices, duplicate-slices, tilted-gantry",
           "DICOM", "list", choices=tuple(sorted(REPAIRABLE)), decides="files",
           flag=Flag("--repair", "FAULT", "repeat")),
    Option("colour", True, "read photographs, such as of skin, in colour; false: they are refused", "Advanced", "flag",
           decides="files"),
    Option("download_dir", None, "folder that keeps what a DICOMweb query retrieves", "DICOM",
           flag=Flag("--download", "FOLDER")),
    Option("case_names", "auto",
           "names of cases: auto (DICOM: a salted hash, else the file's name), files, hash or uid", "DICOM", "text",
           choices=("auto", "files", "hash", "uid"), flag=Flag("--case-names", "HOW")),
    Option("case_key", None, "CSV file to write: which case is which scan", "DICOM", flag=Flag("--case-key", "FILE")),
    # Many scans
    Option("retry_failed", False, "resume, but only cases that were refused or failed", "Many scans", "flag",
           flag=Flag("--retry-failed")),
    Option("limit", None, "run at most this number of cases", "Many scans", "integer", minimum=1, optional=True,
           flag=Flag("--limit")),
    Option("order", "path", "order of the cases: path, random, or size (largest first)", "Many scans", "text",
           choices=("path", "random", "size"), flag=Flag("--order", "ORDER")),
    # Scans that are compared with one another, in the bundles that do so
    Option("reference", None,
           "compare with these normal scans (a folder, or references.safetensors of a run), not with one another",
           "Many scans", everywhere=False, flag=Flag("--reference", "NORMALS")),
    Option("neighbours", 10, "number of other scans that each scan is compared with", "Many scans", "integer",
           minimum=1, decides="findings", everywhere=False, flag=Flag("--neighbours")),
    Option("fuse", "none", "combine the map with that of the prompts: none, mean, or rank (mean of ranks)",
           "Many scans", "text", choices=("none", "mean", "rank"), decides="findings", everywhere=False,
           flag=Flag("--fuse", "HOW")),
    # Results
    Option("output_ext", ".nii.gz", "ending of the anomaly map's file", "Advanced", "text",
           choices=(".nii.gz", ".nii"), decides="files"),
    Option("output_dtype", "float32", "data type of the map: float32, or uint16 for small files", "Advanced", "text",
           choices=("float32", "float64", "uint8", "int16", "uint16", "int32"), decides="files"),
    Option("report", "full", "HTML report of each scan: full (with a viewer of the volume), light (still images), none",
           "Basic", "text", choices=REPORTS, decides="files", read=parse_report, flag=Flag("--report", "KIND")),
    Option("seg_nrrd", False, "write the candidates for 3D Slicer (.seg.nrrd)", "Advanced", "flag", decides="files"),
    Option("dicom", [], "DICOM objects to write for DICOM scans: seg, pm, sr, sc", "DICOM", "list",
           choices=_DICOM_KINDS, decides="files", flag=Flag("--dicom", "seg,pm,sr", "comma")),
    Option("progress", True, "show progress bars", "Advanced", "flag", flag=Flag("--progress", off=True)),
    Option("profile", False, "print and store the seconds of each part of the work", "Advanced", "flag",
           flag=Flag("--profile")),
    # Hardware
    Option("device", "$'cuda' if torch.cuda.is_available() and @runtime in ('auto', 'torch') else 'cpu'",
           "device of the network: cpu, cuda or cuda:1", "Hardware", flag=Flag("--device", "NAME")),
    Option("runtime", "auto",
           "torch, or on CPUs onnx or openvino; auto: openvino if installed (tiny_screening: torch, musc: torch)",
           "Hardware", "text", choices=("auto", "torch", "onnx", "openvino"), flag=Flag("--runtime", "NAME")),
    Option("runtime_file", None, "exported network (.onnx, .xml); null: exported on first use and kept", "Hardware"),
    Option("precision", "float32", "precision of the vision towers: float32, bfloat16, float16", "Hardware", "text",
           choices=tuple(PRECISIONS)),
    Option("amp", False, "use autocast instead of precision", "Hardware", decides="files"),
    Option("batch_size", "$1 if str(@device) == 'cpu' else 8", "slices, or windows of slices, in a forward pass",
           "Hardware", "integer", minimum=1),
    Option("num_workers", 0, "processes that load scans ahead", "Hardware", "integer", minimum=0),
    Option("deterministic", False, "fixed seeds and deterministic algorithms only", "Hardware", "flag"),
    # Slices
    Option("plane", "axial", "plane of the slices: axial, coronal, sagittal or acquisition", "Advanced", "text",
           choices=("axial", "coronal", "sagittal", "acquisition"), decides="findings", flag=Flag("--plane", "PLANE")),
    Option("fused_planes", None, "several planes, such as \"['axial', 'coronal']\", combined by fusion", "Advanced",
           "list", choices=("axial", "coronal", "sagittal"), optional=True, decides="findings"),
    Option("fusion", "mean", "mean or max", "Advanced", "text", choices=("mean", "max"), decides="findings"),
    Option("window", "auto",
           "grey values: auto, percentile, a CT window's name, level and width such as [40, 80], or three of them",
           "Advanced", decides="findings", check=check_window, flag=Flag("--window", "WINDOW", "yaml")),
    Option("crop_margin_mm", 10, "margin around the body", "Advanced", "number", minimum=0, decides="findings"),
    Option("min_foreground", 0.01, "slices with a smaller share of foreground get a map of 0",
           "Advanced", "number", minimum=0, maximum=1, decides="findings"),
    Option("token_spacing_mm", None, "wanted distance between tokens; gives in-plane windows",
           "Advanced", "number", above=0, optional=True, decides="findings"),
    Option("overlap", 0.25, "overlap of these windows", "Advanced", "number", minimum=0, maximum=1, decides="findings"),
    Option("slice_spacing_mm", None, "slices closer than this are thinned out and interpolated; null: all run",
           "Advanced", "number", above=0, optional=True, decides="findings"),
    Option("smooth_slices_mm", None, "sigma of a smoothing across slices",
           "Advanced", "number", above=0, optional=True, decides="findings"),
    Option("context_mm", None, "distance of the neighbours that are seen with each slice",
           "Advanced", "number", above=0, optional=True, decides="findings", everywhere=False),
    # Findings
    Option("refine", False, "let the map follow the scan's edges (guided filter)", "Advanced", "flag",
           decides="findings"),
    Option("volume_score", "top_k_mean", "volume score from slice scores: top_k_mean, max, quantile, mean",
           "Advanced", "text", choices=("top_k_mean", "max", "quantile", "mean"), decides="findings"),
    Option("candidate_threshold", 0.5, "candidates contain a map value above it (musc: 0.995, a quantile)", "Basic",
           "number", minimum=0, maximum=1, decides="findings", record="threshold", flag=Flag("--threshold")),
    Option("candidate_low", None, "lower threshold: how far a candidate extends",
           "Advanced", "number", optional=True, decides="findings", record="low"),
    Option("candidate_method", "fixed", "fixed, or quantile: both thresholds are quantiles inside the body",
           "Advanced", "text", choices=("fixed", "quantile"), decides="findings", record="method"),
    Option("min_volume_mm3", 10, "smaller candidates are dropped", "Advanced", "number", minimum=0, decides="findings"),
    Option("border_mm", 0, "no candidate closer to the body's surface",
           "Advanced", "number", minimum=0, decides="findings"),
    Option("max_candidates", 50, "keep this number of candidates, most suspicious first; null: all",
           "Advanced", "integer", minimum=1, optional=True, decides="findings"),
    Option("calibration", None, "file of `calibrate`: adds p-values", "Advanced", decides="files",
           flag=Flag("--calibration", "FILE")),
    Option("alpha", None, "with calibration: candidates with a larger p-value are dropped",
           "Advanced", "number", minimum=0, maximum=1, optional=True, decides="files"),
    # Prompts, of the bundles that have them
    Option("anatomy", None, "what the scan shows, such as brain", "Prompts", everywhere=False,
           flag=Flag("--anatomy", "NAME")),
    Option("modality", None, "how the scan was made, such as FLAIR; without it, as DICOM states; any: general prompts",
           "Prompts", everywhere=False, flag=Flag("--modality", "NAME")),
    Option("states", None, "findings to look for, such as hemorrhage", "Prompts", everywhere=False,
           flag=Flag("--state", "NAME", "repeat")),
    Option("prompt_set", "medical", "prompt set: a name of `prompts list`, or your own .yaml file", "Prompts",
           everywhere=False, flag=Flag("--prompts", "SET")),
)
# fmt: on


def check_together(values: Mapping[str, Any]) -> None:
    """Check options that depend on each other. Each was checked alone before.

    Args:
        values: of options by name; names may be missing.

    Raises:
        ConfigurationError: naming both options, and the remedy.

    Example:
        >>> check_together({"dicom": ["seg", "sr"], "candidate_threshold": 0.5, "candidate_low": 0.4})
    """
    dicom = values.get("dicom") or ()
    if "sr" in dicom and "seg" not in dicom:
        raise ConfigurationError("dicom=sr: the report (sr) refers to the segmentation; add seg, such as seg,sr")
    low, threshold = values.get("candidate_low"), values.get("candidate_threshold")
    if isinstance(low, int | float) and isinstance(threshold, int | float) and low > threshold:
        raise ConfigurationError(
            f"candidate_low={low:g} is above the threshold of candidates, {threshold:g}: lower it, or raise --threshold"
        )
    if values.get("alpha") is not None and values.get("calibration", "") is None:
        raise ConfigurationError(f"alpha={values['alpha']} needs a calibration: give --calibration FILE, too")
