"""Where bundles go: servers, Triton, engines, the browser."""
