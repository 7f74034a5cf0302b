"""Who drew the labels of a scan: a network, an editor, another program."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

from cervjax.about import __version__
from cervjax.inference.memory import device_name
from cervjax.inference.method import Method
from cervjax.inference.sidecar import Identity
from cervjax.inference.types import Settings

MaskSource = Literal["network", "edited", "given"]
SHA256_SHOWN = 12
"""Digits of the weights' SHA-256 in the tables."""


_OF_CARD = ("name", "source", "trained_on", "licence", "limits")
"""What side-cars repeat of a card; the rest is in the weights, which they name."""


@dataclass(frozen=True, eq=False)
class Origin:
    """Who drew the labels of a scan, and how.

    Attributes:
        mask_source: "network"; "edited", changed since a network drew them; "given".
        identity: what the result depends on.
        executed: the settings that were run, others where memory was short.
        weights_sha256: of the network, or ""; of an ensemble's with spaces between.
        cards: of the weights; none where no network has just drawn.
        mask: file of labels that were there before.
    """

    mask_source: MaskSource
    identity: Identity
    executed: Mapping[str, Any]
    weights_sha256: str = ""
    cards: tuple[Mapping[str, Any], ...] = ()
    mask: Path | None = None

    @classmethod
    def of_network(
        cls,
        method: Method,
        executed: Sequence[Settings],
        inputs_sha256: Mapping[str, str],
    ) -> Self:
        """Labels that a network, or several, have drawn.

        Args:
            method: of the run.
            executed: what was run, for each of its members.
            inputs_sha256: of the images.
        """
        first, *others = (settings.effective() for settings in executed)
        cards = tuple(asdict(member.weights.card) for member in method.members)
        return cls(
            "network",
            method.identity(inputs_sha256),
            first | ({"members": others} if others else {}),
            method.weights_sha256,
            cards,
        )

    def columns(self) -> dict[str, str]:
        """For each row of the tables."""
        runs = [self.executed, *self.executed.get("members", ())]
        modes = dict.fromkeys(str(run.get("mode", "")) for run in runs)
        digests = self.weights_sha256.split()
        return {
            "mask_source": self.mask_source,
            "mode": " ".join(modes),
            "weights_sha256": " ".join(digest[:SHA256_SHOWN] for digest in digests),
            "cervjax_version": __version__,
        }

    def sidecar(self) -> dict[str, Any]:
        """For the side-car; of an ensemble with a list of cards."""
        cards = [{k: card[k] for k in _OF_CARD} for card in self.cards]
        return {
            "MaskSource": self.mask_source,
            "MaskFile": None if self.mask is None else str(self.mask),
            "Executed": self.executed,
            "DrawnBy": self.weights_sha256,
            "ModelCard": cards if len(cards) > 1 else next(iter(cards), None),
            "Device": device_name() if self.mask_source == "network" else None,
        }


def versions() -> dict[str, str]:
    """Of the libraries that numbers depend on."""
    return {name: version(name) for name in ("jax", "nibabel", "numpy", "scipy")}
