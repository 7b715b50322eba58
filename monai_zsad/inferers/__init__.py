"""From slices to volumes: how a 2D network is run over a scan."""
