"""A measurement as files: JSON, Markdown, plots, a page."""
