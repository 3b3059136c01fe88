"""Exports of a run's levels, timed and scored."""
