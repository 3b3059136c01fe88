"""The verbs `export`, `export_many` and `verify`, stage by stage."""
