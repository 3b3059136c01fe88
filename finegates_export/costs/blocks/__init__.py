"""Graphs of a few equal blocks, for timing."""
