"""A smaller pretrained model, fine-tuned as the unpruned one was, for as many steps, and exported by us unpruned."""

from __future__ import annotations

from bundles import bundle_models, export_bundle, gated_logits
from contract import Arguments, Model, run_script

from finegates_trainer import TrainOptions, train

OWN = ("base", "data", "out", "max_steps", "seed", "threads", "resume", "overwrite")
"""What is not taken over from the unpruned run."""


def make(arguments: Arguments) -> list[Model]:
    """Float32 and int8."""
    if arguments.small is None:
        raise SystemExit("no smaller pretrained model was named")
    run = arguments.out / "run"
    told = {name: value for name, value in arguments.info["options"].items() if name not in OWN}
    recipe = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    train(
        TrainOptions(
            base=str(arguments.small), data=arguments.data, out=run, max_steps=arguments.unpruned_steps,
            seed=arguments.seed, threads=arguments.threads, **recipe,
        )
    )  # fmt: skip
    report = export_bundle(arguments, run, arguments.out / "bundle", base=str(arguments.small))
    expected_BC = gated_logits(arguments, run, arguments.small)
    title = f"unpruned, {arguments.small.name}"
    return bundle_models(arguments, "bundle", report, expected_BC, "small", title)


if __name__ == "__main__":
    run_script(__doc__, ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime"), make)
