"""Timers, and the processes they run in."""
