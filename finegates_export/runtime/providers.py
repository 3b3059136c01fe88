"""What runs a graph: onnxruntime's execution providers by short names."""

from __future__ import annotations

from typing import Any, Literal, get_args

from finegates_export.errors import InputError

Provider = Literal["cpu", "cuda", "tensorrt"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)

_NAMES: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_THEN: dict[Provider, tuple[Provider, ...]] = {"cpu": (), "cuda": ("cpu",), "tensorrt": ("cuda", "cpu")}
"""What takes the operators that a provider has not."""


def session_providers(onnxruntime: Any, provider: Provider) -> list[str]:
    """What to ask a session for.

    Args:
        onnxruntime: the module.
        provider: the wanted one.

    Raises:
        InputError: this onnxruntime was built without it.
    """
    available = onnxruntime.get_available_providers()
    if _NAMES[provider] not in available:
        raise InputError(
            f"provider {provider}: this onnxruntime has no {_NAMES[provider]}, it has {', '.join(available)}; "
            "for a GPU: pip install 'finegates-export[gpu]'"
        )
    return [_NAMES[name] for name in (provider, *_THEN[provider]) if _NAMES[name] in available]


def check_provider(session: Any, provider: Provider) -> None:
    """Refuse a session that quietly fell back to another provider.

    Raises:
        InputError: it did.
    """
    found = session.get_providers()
    if found[0] != _NAMES[provider]:
        raise InputError(
            f"provider {provider}: onnxruntime could not start {_NAMES[provider]} and would run on {found[0]}; is "
            "there a GPU, with its driver and libraries?"
        )
