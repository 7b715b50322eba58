"""Screening by one call, for notebooks and programs. It does the same as ``monai-zsad screen``."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_zsad.workflow.bundles.kept import KeptNetworks
from monai_zsad.workflow.launching import WorkerPlan, plan_workers, prepare, run_bundle
from monai_zsad.workflow.options.views import given_options
from monai_zsad.workflow.python.case import Origin
from monai_zsad.workflow.python.inputs import TemporaryFolder, as_path
from monai_zsad.workflow.python.results import Screened, read_results

if TYPE_CHECKING:
    from monai_zsad.workflow.python.inputs import Scans

__all__ = ["Screener", "screen"]

OnProgress = Callable[[float, str], None]
"""Is called with the fraction of the run that is done, in [0, 1], and a short text."""

# A run changes what the whole process shares: the logging, the search path and the working of warnings.
_TURN = threading.RLock()


class _Stopped(BaseException):
    """The caller's callback has raised. No ``Exception``: a run goes on after one that a single scan raises."""


class Screener:
    """A bundle whose model stays loaded between calls.

    ``monai.bundle.run`` builds and loads everything for each run. Here, a network is loaded once for each choice of
    weights, device and precision; networks with other prompts share its parameters. The results are the same as those
    of :func:`screen`. One call runs at a time, also if several threads call.

    Args:
        bundle: see :func:`screen`.
        weights: see :func:`screen`.
        **options: see :func:`screen`; for all calls.

    Raises:
        ConfigurationError: if the bundle or an option is unknown, or if a value cannot be used.

    Example:
        >>> from monai_zsad.synthesis import write_sample_scan
        >>> screener = Screener(anatomy="brain")
        >>> for scan in [write_sample_scan("scan")]:  # doctest: +SKIP
        ...     result = screener(scan)
        ...     print(result.score, len(result.candidates))
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] = "tiny_screening",
        *,
        weights: Mapping[str, str | os.PathLike[str]] | None = None,
        **options: Any,
    ) -> None:
        from monai_zsad.workflow.bundles import find_bundle
        from monai_zsad.workflow.options.command_line import check_settings
        from monai_zsad.workflow.options.early import check_values, read_yaml, with_overrides

        # Programs may change the working directory before the first call.
        self.bundle = find_bundle(bundle).absolute()
        self._settings = _settings(options, weights)
        self._networks = KeptNetworks()
        content = read_yaml(self.bundle / "configs" / "inference.yaml")
        check_settings(self._settings, content, self.bundle.name)
        check_values(with_overrides(content, self._settings))

    def __call__(
        self,
        scans: Scans,
        output_dir: str | os.PathLike[str] | None = None,
        *,
        affine: Any = None,
        name: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> Screened:
        """Screen scans; see :func:`screen` for the arguments and the errors.

        Args:
            scans: see :func:`screen`.
            output_dir: see :func:`screen`.
            affine: see :func:`screen`.
            name: see :func:`screen`.
            on_progress: see :func:`screen`.
            **options: for this call, in the place of those of the screener.
        """
        settings = self._settings | _settings(options, None)
        return _screened(scans, output_dir, self.bundle, settings, affine, name, on_progress, networks=self._networks)

    def __repr__(self) -> str:
        return f"Screener({self.bundle.name!r}, {len(self._networks)} loaded)"


def screen(
    scans: Scans,
    output_dir: str | os.PathLike[str] | None = None,
    bundle: str | os.PathLike[str] = "tiny_screening",
    *,
    affine: Any = None,
    name: str | None = None,
    weights: Mapping[str, str | os.PathLike[str]] | None = None,
    engine: str = "process",
    workers: int | None = None,
    ray_address: str | None = None,
    worker_gpus: float | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Screened:
    """Screen scans with a bundle. Each scan gets an anomaly map, candidates, scores, a preview image and a report.

    It does the same as ``monai-zsad screen``, but in this process, and it prints nothing: the log of the run is
    ``run.log`` in the folder of the results. A scan that is refused or fails does not end the run and raises no
    exception here; see :attr:`Screened.failed`. To ask such a scan for its score raises the reason.

    Args:
        scans: a volume file, a folder with a DICOM series, a folder with files and subfolders of these, a zip file, a
            list of scans (CSV or JSON), or a DICOMweb query. Or a volume in memory: an array (X, Y, Z) of numpy or a
            tensor (1, X, Y, Z) of torch, each with ``affine``; a ``MetaTensor``; an image of nibabel. Or a list of
            paths, MetaTensors and images.
        output_dir: folder for the results. None: a temporary folder that lives as long as the result.
        bundle: the folder of a bundle, or one of the names in :func:`monai_zsad.bundles.names`.
        affine: of an array: (4, 4), from voxel to mm in RAS, as in nibabel.
        name: of the case of a volume in memory; None: ``scan``, or the name of the file that nibabel read.
        weights: source of each part (``clip``, ``prompts``, ...): a registered name, a file, or ``seed:N``. All other
            parts keep the released weights of the bundle.
        engine: how to run several workers: ``"process"`` (on this machine) or ``"ray"``.
        workers: number of processes that share the scans. Each has its own model. None: this process only; with Ray, 2.
        ray_address: address of a Ray cluster. None starts Ray on this machine.
        worker_gpus: number of GPUs of each Ray worker. None: 1 with ``device="cuda"``, else 0.
        on_progress: is called with the fraction of the run that is done, in [0, 1], and a short text. If it raises, the
            run ends, and the exception comes out of this call.
        **options: values of the bundle's ``inference.yaml`` by id, for example ``anatomy="brain"``,
            ``plane="coronal"``, ``window=[40, 80]``, ``dicom=["seg"]``, ``overwrite=True``, ``resume=True``,
            ``progress=False``. The names of the command line ``prompts``, ``state``, ``threshold`` and ``download``
            are also possible. None keeps the default.

    Returns:
        The cases with their status and files. With one scan, the result has its score, candidates and volumes itself.

    Raises:
        ConfigurationError: if the bundle or an option is unknown, if a value cannot be used, or if an array has no
            affine.
        InputError: if there is no scan.
        OutputError: if the folder has results of the same cases already, or if results cannot be written.
        WeightsError: if weights are missing or do not fit.

    Example:
        >>> from monai_zsad.synthesis import write_sample_scan
        >>> result = screen(write_sample_scan("scan"), anatomy="brain", modality="FLAIR")  # doctest: +SKIP
        >>> result.score, len(result.candidates)  # doctest: +SKIP
        >>> result.map.shape, result.map.affine  # doctest: +SKIP
        >>> result.show()  # doctest: +SKIP
        >>> result.save("results")  # doctest: +SKIP
    """
    settings = _settings(options, weights)
    plan = plan_workers(engine, workers, ray_address, worker_gpus, settings.get("device"), settings.get("limit"))
    return _screened(scans, output_dir, bundle, settings, affine, name, on_progress, plan=plan)


def _settings(options: Mapping[str, Any], weights: Mapping[str, Any] | None) -> dict[str, Any]:
    parts = {f"weights#{part}": source for part, source in (weights or {}).items()}
    given = given_options(options) | parts
    return {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in given.items()}


def _screened(
    scans: Scans,
    output_dir: str | os.PathLike[str] | None,
    bundle: str | os.PathLike[str],
    settings: Mapping[str, Any],
    affine: Any,
    name: str | None,
    on_progress: OnProgress | None,
    *,
    plan: WorkerPlan | None = None,
    networks: KeptNetworks | None = None,
) -> Screened:
    path, written = as_path(scans, affine, name)
    own = TemporaryFolder() if output_dir is None else None
    folder = own.path if own is not None else Path(output_dir or "").expanduser()
    shows_bar = settings.get("progress", True)
    told = settings if on_progress is None else {**settings, "progress": True}
    seen: list[Any] = []
    with _TURN, _as_before():
        config, given = prepare(path, folder, bundle, told)
        console = _console(path, shows_bar, on_progress)
        try:
            complete = run_bundle(config, given, plan, console, lambda parser: _lent(parser, networks, seen))
        except _Stopped as stopped:
            raise stopped.__cause__ or stopped from None
    found = tuple(seen) or None

    def read() -> tuple[Sequence[Mapping[str, Any]], Callable[[Any], Any]]:
        if found is None:
            from monai_zsad.workflow.bundles import read_bundle

            # Several workers have found the scans, each for itself.
            parser = read_bundle(given["bundle_root"], given)
            return parser.get_parsed_content("datalist"), parser.get_parsed_content("preprocessing").transforms[0]
        return found[0], found[1]

    folders = tuple(one for one in (written, own) if one is not None)
    return read_results(folder, complete, Origin(read, folders, is_temporary=own is not None))


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """The run of a bundle expects a process of its own, so it does not restore these."""
    hook, search = sys.excepthook, list(sys.path)
    try:
        yield
    finally:
        sys.excepthook, sys.path[:] = hook, search


def _console(scans: str, shows_bar: bool, on_progress: OnProgress | None) -> Any:
    from monai_zsad.workflow.console.events import listener
    from monai_zsad.workflow.console.quiet import quiet_console

    # A program that has its own console around this call hears the run there.
    if listener() is not None and on_progress is None:
        return contextlib.nullcontext()

    def report(fraction: float, text: str) -> None:
        try:
            if on_progress is not None:
                on_progress(fraction, text)
        except BaseException as error:
            raise _Stopped from error

    return quiet_console("silent", progress=bool(shows_bar), on_progress=report, scans=scans)


@contextlib.contextmanager
def _lent(parser: Any, networks: KeptNetworks | None, seen: list[Any]) -> Iterator[None]:
    """Give a configuration the network that is kept, or keep the one that it loads; see what it reads."""
    key = networks.key(parser) if networks is not None else None
    network = networks.get(parser) if networks is not None else None
    if network is not None:
        parser["network_def"] = network
        parser["initialize"] = [step for step in parser["initialize"] if "load_weights(" not in str(step)]
    try:
        yield
    finally:
        built = parser.ref_resolver.resolved_content
        loaded = built.get("network_def")
        # Without records, the run ended before the weights were loaded.
        if networks is not None and key is not None and network is None and getattr(loaded, "records", None):
            networks.keep(key, loaded, built.get("prompts"))
        if "datalist" in built and "preprocessing" in built:
            seen += [built["datalist"], built["preprocessing"].transforms[0]]
