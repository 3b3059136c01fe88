"""The peers: what makes each of them, in which environment, and from what."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from finegates_export.common.options import Options, check
from finegates_export.errors import InputError

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / ".cache" / "peers"
OWN = "own"
"""The environment that the driver runs in."""


@dataclass(frozen=True)
class Peer(Options):
    """One way to come by models."""

    name: str
    script: str
    """A file of scripts/."""
    environment: str = OWN
    """`own`, or a file of requirements/ without its ending."""
    needs: tuple[str, ...] = ()
    """Peers whose files it reads."""
    small: bool = False
    """Whether it starts from the smaller pretrained model."""

    def __post_init__(self) -> None:
        check((HERE / "scripts" / self.script).is_file(), "script", f"{self.script} is not in scripts/")
        known = self.environment == OWN or (HERE / "requirements" / f"{self.environment}.txt").is_file()
        check(known, "environment", f"{self.environment}.txt is not in requirements/")

    def interpreter(self) -> str:
        """The Python that runs its script and its models.

        Raises:
            InputError: its environment was not made.
        """
        if self.environment == OWN:
            return sys.executable
        home = ENVIRONMENTS / self.environment
        if not (home / ".ready").is_file():
            raise InputError(
                f"{self.name} runs in {home}, which is missing; `make bench-peers` sets it up, --only leaves it away"
            )
        return str(home / "bin" / "python")


PEERS = (
    Peer("optimum", "optimum_peer.py", "optimum"),
    Peer("torch-onnx", "torch_onnx_peer.py"),
    Peer("ours", "ours_peer.py"),
    Peer("torch-pruning", "torch_pruning_peer.py", "torch-pruning"),
    Peer("authors", "authors_peer.py"),
    Peer("small", "small_peer.py", small=True),
    Peer("openvino", "openvino_peer.py", "openvino", needs=("ours",)),
)


def chosen(names: str | None, *, small: bool) -> tuple[Peer, ...]:
    """Some of the peers, in the registry's order.

    Args:
        names: comma-separated; all where None.
        small: whether a smaller pretrained model was given.

    Raises:
        ValueError: a name is no peer, or lacks another peer or the smaller model.
    """
    wanted = names.split(",") if names else [peer.name for peer in PEERS]
    known = [peer.name for peer in PEERS]
    check(set(wanted) <= set(known), "only", f"{sorted(set(wanted) - set(known))} unknown; choose from {known}")
    peers = tuple(peer for peer in PEERS if peer.name in wanted)
    for peer in peers:
        lacking = sorted(set(peer.needs) - set(wanted))
        check(not lacking, "only", f"{peer.name} reads what {lacking} leaves; name it too")
        check(small or not peer.small, "small", f"{peer.name} starts from a smaller pretrained model; name its folder")
    return peers
