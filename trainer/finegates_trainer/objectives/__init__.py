"""What presses gates shut, and what decides when the structure is settled; a file for each way to ask."""

from __future__ import annotations
