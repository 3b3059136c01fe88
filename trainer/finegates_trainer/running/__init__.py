"""A training run: set up, started or resumed, and written."""
