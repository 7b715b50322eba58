from . import claims, launcher, local_workers, process_group, process_identity, ranks, ray_workers, sharing

__all__ = [
    "claims",
    "launcher",
    "local_workers",
    "process_group",
    "process_identity",
    "ranks",
    "ray_workers",
    "sharing",
]
