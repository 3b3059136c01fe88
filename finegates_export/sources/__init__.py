"""Inputs of an export: a base, a run folder, a saved shrunk model; base and gates assembled."""
