"""Replicas on a Ray cluster, for `--address`."""
