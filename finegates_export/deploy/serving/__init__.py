"""Bundles in servers."""
