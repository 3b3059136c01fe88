"""The command `finegates-serve`."""

from __future__ import annotations

import sys

from finegates_export.common.commands import Command, Output, run_command
from finegates_export.deploy.serving.options import ServeOptions

SUMMARY = """Serve a bundle over HTTP: text in, label and scores out.

Send requests to /predict, or with the Open Inference Protocol to /v2/models/NAME/infer. Replicas run on Ray Serve, on
this machine or, with --address, on a cluster."""


def main() -> None:
    """Entry point."""
    run_command("finegates-serve", Command(SUMMARY, ServeOptions, _serve))


def _serve(options: ServeOptions, output: Output) -> None:
    from finegates_export.deploy.serving.model import ServedModel
    from finegates_export.deploy.serving.server import serve_bundle

    def ready(model: ServedModel, url: str) -> None:
        line = f"{model.name} ({model.form}, {model.providers[0]}) is served at {url}; press Ctrl-C to stop"
        output.result(line, {"url": url, "model": model.name, "form": model.form, "providers": list(model.providers)})
        sys.stdout.flush()  # whoever started this in the background waits for the line

    serve_bundle(options, ready)


if __name__ == "__main__":
    main()
