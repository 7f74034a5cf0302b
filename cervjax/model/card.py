"""What a user must know of a set of weights: the model card, and its JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from cervjax.about import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.model.dense_vnet import PUBLISHED, Architecture
from cervjax.preprocessing.histogram import CHANNELS, NUM_LANDMARKS, are_landmarks
from cervjax.preprocessing.pipeline import Normalisation, PaddingMode, Recipe

Mode = Literal["whole", "sliding_window"]
Tta = Literal[1, 2, 4]
"""Of a volume, over which test-time augmentation averages."""
LevelsRule = Literal["paper", "none"]
"""Each muscle at its levels of Table 1, or as the network draws it."""

FORMAT = "cervjax-3"
"""Of cards and weights files; changes when their fields do."""
NO_PATIENTS = "Not trained or validated on patients; not for clinical use."


class WeightsError(ValueError):
    """Weights that are missing, damaged or of another network."""


@dataclass(frozen=True)
class ModelCard:
    """What a user must know of a set of weights.

    Attributes:
        name: short name.
        source: where the numbers come from.
        trained_on: the data.
        licence: the terms of the weights.
        mode: "whole" or "sliding_window", how the network is run unless told otherwise.
        recipe: the preprocessing they were trained with.
        tta: versions of a scan that test-time augmentation averages, unless told
            otherwise: 1, 2 or 4, see `cervjax.inference.test_time_augmentation`.
        limits: what they must not be used for.
        architecture: the network's numbers of layers and features.
        accuracy: how good they are and on what, as
            `cervjax.evaluation.tables.in_brief` gives it.
        labels: label value to muscle.
        levels_rule: for weights that find levels: whether muscles are cut to Table 1's
            ("paper"), or left as they are drawn ("none"), unless told otherwise.

    Raises:
        ValueError: mode, tta or levels_rule is none of these.
    """

    name: str
    source: str
    trained_on: str
    licence: str
    mode: Mode
    recipe: Recipe
    tta: Tta = 1
    limits: str = NOTICE
    architecture: Architecture = PUBLISHED
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(
        default_factory=lambda: {str(m.label): f"{m.name}, {m.side}" for m in MUSCLES}
    )
    levels_rule: LevelsRule = "paper"

    def __post_init__(self) -> None:
        """Refuses what no command can run."""
        for name, allowed in (
            ("mode", get_args(Mode)),
            ("tta", get_args(Tta)),
            ("levels_rule", get_args(LevelsRule)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"model card: {name} must be one of {allowed}, got "
                    f"{getattr(self, name)!r}"
                )


def card_to_json(card: ModelCard) -> str:
    """One line, the same for equal cards: digests cover it.

    The usual ``levels_rule`` is left out: cards from before it keep their digests.
    """
    fields = asdict(card)
    if card.levels_rule == "paper":
        del fields["levels_rule"]
    return json.dumps(fields, sort_keys=True)


def card_from_json(text: str, version: str | None, file: object) -> ModelCard:
    """Reads what `card_to_json` wrote.

    Args:
        text: the card.
        version: the format that is written beside it.
        file: where it comes from, for messages.

    Raises:
        WeightsError: the card is of another version of cervjax, or damaged.
    """
    if version != FORMAT:
        raise WeightsError(
            f"{file}: its model card has the format {version!r}, this version of "
            f"cervjax reads {FORMAT!r}; use the version that wrote it, or make the "
            "weights again by training or with 'cervjax convert' from their checkpoint"
        )
    try:
        fields = json.loads(text)
        recipe = fields.pop("recipe")
        landmarks = {k: tuple(v) for k, v in recipe.pop("landmarks").items()}
        architecture = Architecture(**_with_tuples(fields.pop("architecture")))
        recipe = Recipe(landmarks=landmarks, **_with_tuples(recipe))
        _check_recipe(recipe)
        card = ModelCard(recipe=recipe, architecture=architecture, **fields)
        for name in ("name", "source", "trained_on", "licence", "limits"):
            if not getattr(card, name).isprintable():
                raise ValueError(f"{name} must be one line of text")
        return card
    except _INVALID as error:
        raise WeightsError(
            f"{file}: has no valid model card ({error!r}); copy it again, or make it "
            "by training or with 'cervjax convert'"
        ) from error


_INVALID = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
)


def _check_recipe(recipe: Recipe) -> None:
    """Raises ValueError for constants that no training can have."""

    def numbers(values: Any, count: int, low: float, high: float) -> bool:
        return (
            isinstance(values, tuple)
            and len(values) == count
            and all(type(v) in (int, float) and low <= v <= high for v in values)
        )

    r = recipe
    sound = {
        "landmarks": all(
            numbers(v, NUM_LANDMARKS, -1e6, 1e6) and are_landmarks(v)
            for v in r.landmarks.values()
        )
        and r.landmarks.keys() <= set(CHANNELS),
        "spacing_mm": numbers(r.spacing_mm, 3, 0.05, 50),
        "padding": numbers(r.padding, 3, 0, 10_000)
        and all(type(v) is int for v in r.padding),
        "padding_mode": r.padding_mode in get_args(PaddingMode),
        "cutoff": numbers(r.cutoff, 2, 0, 1) and r.cutoff[0] < r.cutoff[1],
        "keep_last_plane": type(r.keep_last_plane) is bool,
        "skip_fitting_grid": type(r.skip_fitting_grid) is bool,
        "normalisation": r.normalisation in get_args(Normalisation),
    }
    for name, is_sound in sound.items():
        if not is_sound:
            raise ValueError(f"recipe: {name} must not be {getattr(r, name)!r}")


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
