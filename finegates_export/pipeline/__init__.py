"""The verbs, stage by stage."""
