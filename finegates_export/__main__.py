"""`python -m finegates_export`."""

from finegates_export.cli import main

main()
