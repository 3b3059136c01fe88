"""Integer forms of a graph."""
