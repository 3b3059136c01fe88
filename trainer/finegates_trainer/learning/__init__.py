"""Losses, metrics, and learning from a teacher."""
