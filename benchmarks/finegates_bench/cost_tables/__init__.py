"""Costs of the halves of a base's layers at different widths."""
