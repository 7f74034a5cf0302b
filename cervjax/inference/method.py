"""How scans are segmented and measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from cervjax.inference.sidecar import Identity, plain
from cervjax.inference.types import Settings
from cervjax.measurement.calibration import Calibration
from cervjax.model.weights import Weights
from cervjax.preprocessing.pipeline import Recipe

RECIPE_SETTINGS = ("padding", "padding_mode", "keep_last_plane", "skip_fitting_grid")
"""Of the preprocessing, what a user may choose."""


@dataclass(frozen=True, eq=False)
class Method:
    """How scans are segmented and measured.

    Attributes:
        weights: network and card.
        recipe: preprocessing, the card's unless overridden.
        settings: how the network is run.
        calibration: slopes, for calibrated values beside the measured ones.
    """

    weights: Weights
    recipe: Recipe
    settings: Settings
    calibration: Calibration | None = None

    @classmethod
    def of_weights(
        cls, weights: Weights, calibration: Calibration | None = None, **changes: Any
    ) -> Self:
        """The weights' own method, but for what is given.

        Args:
            weights: network and card.
            calibration: see `Method`.
            changes: fields of `Settings`, or of `RECIPE_SETTINGS`; None leaves the
                card's value.

        Raises:
            ValueError: an unknown name, settings that contradict each other, or the
                calibration of other weights.
        """
        known = [*RECIPE_SETTINGS, *(field.name for field in fields(Settings))]
        if unknown := changes.keys() - set(known):
            raise ValueError(
                f"unknown setting {', '.join(sorted(unknown))}; there are "
                f"{', '.join(sorted(known))}"
            )
        if calibration is not None:
            calibration.check_weights(weights.sha256)
        given = {name: value for name, value in changes.items() if value is not None}
        own = {name: given.pop(name) for name in RECIPE_SETTINGS if name in given}
        recipe = replace(weights.card.recipe, **own)
        return cls(
            weights, recipe, Settings.of_card(weights.card, **given), calibration
        )

    def identity(self, inputs_sha256: Mapping[str, str]) -> Identity:
        """What a result of this method depends on, beside images of these digests."""
        settings = self.settings.effective() | {"recipe": asdict(self.recipe)}
        if self.calibration is not None:
            settings["calibration_sha256"] = self.calibration.sha256
        digest = self.weights.sha256
        return Identity(inputs_sha256, digest, plain(settings))
