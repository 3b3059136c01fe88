"""A training on its way: set up, started or resumed, written down."""
