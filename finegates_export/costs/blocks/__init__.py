"""Graphs of a few equal blocks, to be timed."""
