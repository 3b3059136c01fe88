"""The command `finegates-serve`."""

from __future__ import annotations

import sys

from finegates_export.common.commands import Command, Output, run_command
from finegates_export.deploy.serving.options import ServeOptions

SUMMARY = """Serve bundles over HTTP: text in, label and scores out.

Send requests to /predict, or with the Open Inference Protocol to /v2/models/NAME/infer. One process serves; --replicas
adds worker processes, and --address puts them on a Ray cluster."""


def main() -> None:
    """Entry point."""
    run_command("finegates-serve", Command(SUMMARY, ServeOptions, _serve))


def _serve(options: ServeOptions, output: Output) -> None:
    from finegates_export.deploy.serving.model import ServedModel
    from finegates_export.deploy.serving.server import serve_bundles

    def ready(models: tuple[ServedModel, ...], url: str) -> None:
        told = [f"{model.name} ({model.form}, {model.providers[0]})" for model in models]
        verb = "is" if len(models) == 1 else "are"
        line = f"{' and '.join(told)} {verb} served at {url}; press Ctrl-C to stop"
        described = [{"model": model.name, "form": model.form, "providers": list(model.providers)} for model in models]
        output.result(line, {"url": url, **described[0], "models": described})
        sys.stdout.flush()  # whoever started this in the background waits for the line

    serve_bundles(options, ready)


if __name__ == "__main__":
    main()
