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
    from cervjax.evaluation.table_files import in_brief
    from cervjax.model.weights import (
        checkpoint_files,
        load_weights,
        save_checkpoint,
        save_weights,
    )

    target: Path = args.target
    to_file = target.suffix == ".safetensors"
    files = (target,) if to_file else checkpoint_files(target)
    there = [str(file) for file in files if file.exists()]
    if there:
        raise ValueError(
            f"{', '.join(there)} is there already and is not overwritten; give another "
            "name or folder"
        )
    weights = load_weights(args.source, args.landmarks)
    changes = {"name": args.name, "source": args.source_note, "tta": args.tta}
    changes = {name: value for name, value in changes.items() if value}
    if args.accuracy is not None:
        muscles = in_brief(args.accuracy)
        changes["accuracy"] = {"data": args.accuracy_of, "muscles": muscles}
    card = replace(weights.card, **changes)
    target.parent.mkdir(parents=True, exist_ok=True)
    save = save_weights if to_file else save_checkpoint
    digest = save(target, weights.variables, card)
    written = [str(file) for file in files if file.exists()]
    print(f"{', '.join(written)}: sha256 {digest}")
    return OK
