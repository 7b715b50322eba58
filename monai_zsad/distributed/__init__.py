"""Several processes that share one run: claims on cases, ranks, the launcher and its workers."""
