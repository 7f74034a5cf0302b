"""``cervjax convert``: a NiftyNet checkpoint into a weights file, or back."""

import argparse
from dataclasses import replace
from pathlib import Path

from cervjax.cli.flags import OK, add_tta

HELP = "NiftyNet checkpoint <-> weights file"

EXAMPLES = """\
cervjax convert models/dixon converted.safetensors --name dixon
cervjax convert weights.safetensors checkpoint/model.ckpt-0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("source", type=Path, help="as --weights of infer")
    parser.add_argument(
        "target", type=Path, help="FILE.safetensors, or a checkpoint prefix"
    )
    parser.add_argument("--landmarks", type=Path, help="of a NiftyNet checkpoint")
    parser.add_argument("--name", help="name in the model card")
    parser.add_argument(
        "--source-note",
        help="where the weights come from, for the card",
    )
    add_tta(parser, "for the card")
    parser.add_argument(
        "--accuracy",
        type=Path,
        metavar="FOLDER",
        help="of 'cervjax evaluate', for the card",
    )
    parser.add_argument(
        "--accuracy-of",
        default="",
        metavar="TEXT",
        help="which scans that was, for the card",
    )


def run(args: argparse.Namespace) -> int:
    """Turns a NiftyNet checkpoint into a weights file, or the other way round."""
    from cervjax.evaluation.tables import in_brief
    from cervjax.model.niftynet_checkpoint import write_network
    from cervjax.model.weights import LANDMARKS_NAME, load_weights, save_weights
    from cervjax.preprocessing.histogram import format_landmarks

    weights = load_weights(args.source, args.landmarks)
    target: Path = args.target
    if target.exists() or Path(f"{target}.index").exists():
        raise ValueError(f"{target} is there already; give another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".safetensors":
        card = replace(weights.card, name=args.name or weights.card.name)
        if args.source_note:
            card = replace(card, source=args.source_note)
        if args.tta:
            card = replace(card, passes=args.tta)
        if args.accuracy is not None:
            about = {"data": args.accuracy_of, "muscles": in_brief(args.accuracy)}
            card = replace(card, accuracy=about)
        digest = save_weights(target, weights.variables, card)
        print(f"{target}: sha256 {digest}")
        return OK
    landmarks = target.parent / LANDMARKS_NAME
    if landmarks.exists():
        raise ValueError(f"{landmarks} is there already; give another folder")
    write_network(target, weights.variables)
    landmarks.write_text(format_landmarks(weights.card.recipe.landmarks))
    print(f"{target}.index, {target}.data-00000-of-00001, {landmarks}")
    return OK
