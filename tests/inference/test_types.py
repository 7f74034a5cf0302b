import pytest

from cervjax.inference.types import Settings, check_window
from cervjax.model.card import ModelCard
from cervjax.preprocessing.pipeline import Recipe


def card(mode, **fields):
    return ModelCard("n", "s", "t", "l", mode, Recipe(), **fields)


def test_settings_are_the_cards_unless_given():
    assert Settings.of_card(card("whole", tta=4)) == Settings("whole", tta=4)
    given = {"tta": 2, "levels_rule": None, "batch_size": None}
    settings = Settings.of_card(card("whole", tta=4), **given)
    assert settings == Settings("whole", tta=2, levels_rule="paper")


def test_a_cards_rule_of_levels_is_taken_unless_another_is_given():
    own = card("whole", levels_rule="none")
    assert Settings.of_card(own).levels_rule == "none"
    assert Settings.of_card(own, levels_rule="paper").levels_rule == "paper"
    with pytest.raises(ValueError, match="levels_rule must be one of"):
        card("whole", levels_rule="table 1")


@pytest.mark.parametrize(
    ("own", "mode", "stitch"),
    [
        ("whole", None, "logits"),
        ("whole", "sliding_window", "logits"),
        ("sliding_window", None, "labels"),
        ("sliding_window", "whole", "logits"),
    ],
)
def test_only_weights_of_niftynets_windows_stitch_labels(own, mode, stitch):
    settings = Settings.of_card(card(own), mode=mode)
    assert (settings.mode, settings.stitch) == (mode or own, stitch)


def test_what_does_not_matter_for_a_run_is_no_part_of_its_identity():
    whole = Settings("whole", tta=2)
    for other in ({"batch_size": 3}, {"max_memory_gb": 1.0}, {"window": (8, 8, 8)}):
        assert Settings("whole", tta=2, border=(1, 1, 1), **other).effective() == (
            whole.effective()
        )
    assert Settings("whole", tta=4).effective() != whole.effective()
    full_length = Settings("whole", tta=2, levels_rule="none")
    assert full_length.effective() != whole.effective()
    assert "window" not in whole.effective()
    windows = Settings("sliding_window")
    assert Settings("sliding_window", batch_size=3).effective() == windows.effective()
    for other in (
        {"window": (64, 64, 64)},
        {"border": (1, 1, 1)},
        {"predict_border": True},
        {"stitch": "labels"},
    ):
        changed = Settings("sliding_window", **other).effective()
        assert changed != windows.effective()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"mode": "windows"}, "mode must be one of"),
        ({"tta": 3}, "tta must be one of"),
        ({"batch_size": 0}, "at least 1"),
        ({"window": (30, 8, 8)}, "multiples of 8"),
        ({"mode": "whole", "stitch": "labels"}, "not stitched from labels"),
        ({"levels_rule": "table 1"}, "levels_rule must be one of"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("window", "border"),
    [
        ((30, 8, 8), (0, 0, 0)),
        ((0, 8, 8), (0, 0, 0)),
        ((8, 8, 8), (4, 0, 0)),
        ((8, 8, 8), (-1, 0, 0)),
    ],
)
def test_impossible_windows_are_refused(window, border):
    with pytest.raises(ValueError, match="window"):
        check_window(window, border)
