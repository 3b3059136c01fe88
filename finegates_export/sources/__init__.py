"""What an export reads: a base, a run folder, a saved shrunk model; base and gates assembled."""
