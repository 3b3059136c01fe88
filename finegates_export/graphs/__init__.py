"""From a torch model to the graph that a target runs."""
