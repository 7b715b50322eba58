from .exporting import export
from .reading import build_network, bundle_network, find_bundle, read_bundle, released_weights
from .weights import check_parts, convert, load_weights, name_large_file, read_records, save_state

__all__ = [
    "build_network",
    "bundle_network",
    "check_parts",
    "convert",
    "export",
    "find_bundle",
    "load_weights",
    "name_large_file",
    "read_bundle",
    "read_records",
    "released_weights",
    "save_state",
]
