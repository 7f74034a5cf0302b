"""The ``cervjax`` command: flags and wiring.

Exit status: 0 all well, 1 a scan failed, 2 nothing could be started, 130 interrupted.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cervjax import __version__
from cervjax.scans import (
    PairingError,
    Problem,
    Scan,
    explicit_scan,
    find_scans,
    pairing_table,
)

OK, SOME_FAILED, NOT_STARTED, INTERRUPTED = 0, 1, 2, 130


def start(argv: Sequence[str] | None = None) -> int:
    """`main`, in a process that gets its memory in large pages where Linux has them.

    The network writes gigabytes of short-lived arrays, and fetching them 4 KB at a time
    takes long. glibc reads the setting only when a process begins.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return main(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        return args.command(args)
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"cervjax: error: {error}", file=sys.stderr)
        return NOT_STARTED
    except KeyboardInterrupt:
        print("cervjax: interrupted; finished scans are kept", file=sys.stderr)
        return INTERRUPTED


def infer(args: argparse.Namespace) -> int:
    """Segments and measures scans."""
    scans, problems, root = _scans(args)
    if args.dry_run:
        print(pairing_table(scans, problems, root))
        return SOME_FAILED if problems else OK
    if args.output is None:
        raise ValueError("say where the results go: -o OUT")
    if args.weights is None:
        raise ValueError(
            "no weights: this version carries none; give --weights FILE.safetensors, "
            "a training work directory, or the prefix of a NiftyNet checkpoint"
        )
    _use_device(args.device)
    from tqdm import tqdm

    from cervjax.batch import run
    from cervjax.inference import Settings, device_name
    from cervjax.segment import check_windows
    from cervjax.weights import load_weights

    _check_writable(args.output)
    weights = load_weights(args.weights, args.landmarks)
    changes = {
        name: value
        for name in (
            "padding",
            "padding_mode",
            "keep_last_plane",
            "skip_fitting_grid",
        )
        if (value := getattr(args, name)) is not None
    }
    recipe = replace(weights.card.recipe, **changes)
    check_windows(args.window, args.border)
    settings = Settings(
        mode=args.mode or weights.card.mode,
        window=args.window,
        border=args.border,
        predict_border=args.predict_border,
        mirror=weights.card.mirror if args.mirror is None else args.mirror,
        batch_size=args.batch_size,
        max_memory_gb=args.max_memory_gb,
        measure_on=args.measure_on,
    )
    print(f"cervjax {__version__} on {device_name()}, {settings.mode} mode")
    print(f"weights {weights.card.name}, sha256 {weights.sha256}")
    print(f"        {weights.card.source}; {weights.card.limits}")
    print(f"{len(scans)} scan(s), results in {args.output}", flush=True)
    with tqdm(total=len(scans), unit="scan", disable=len(scans) == 0) as bar:
        failures = run(
            scans,
            problems,
            weights,
            recipe,
            settings,
            args.output,
            overwrite=args.overwrite,
            say=bar.write,
            advance=lambda name: bar.update(),
        )
    done = len(scans) + len(problems) - len(failures)
    print(f"{done} scan(s) done, {len(failures)} failed")
    if failures:
        print(f"see {args.output / 'failures.csv'}", file=sys.stderr)
    return SOME_FAILED if failures else OK


def convert(args: argparse.Namespace) -> int:
    """Turns a NiftyNet checkpoint into a weights file, or the other way round."""
    from cervjax.niftynet import write_network
    from cervjax.preprocess import format_landmarks
    from cervjax.weights import LANDMARKS_NAME, load_weights, save_weights

    weights = load_weights(args.source, args.landmarks)
    target: Path = args.target
    if target.exists() or Path(f"{target}.index").exists():
        raise ValueError(f"{target} is there already; give another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".safetensors":
        card = replace(weights.card, name=args.name or weights.card.name)
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


def landmarks(args: argparse.Namespace) -> int:
    """Learns histogram landmarks from a folder of scans."""
    from cervjax.dixon import read_scan
    from cervjax.files import write_atomically
    from cervjax.preprocess import Recipe, format_landmarks, resample, train_landmarks

    scans, problems, _ = _scans(args)
    if problems:
        raise ValueError(f"{problems[0].message}; {problems[0].mend}")
    target_mm = Recipe().spacing_mm

    def pairs():
        for scan in scans:
            images = read_scan(scan)
            print(scan.name, flush=True)
            yield tuple(
                resample(v, images.grid.spacing_mm, target_mm, flush_denormals=False)
                for v in (images.in_phase, images.out_phase)
            )

    learnt = train_landmarks(pairs(), foreground_type=args.foreground)
    text = format_landmarks(learnt)
    write_atomically(args.output, lambda part: part.write_text(text))
    print(f"{args.output}: landmarks of {len(scans)} scan(s)")
    return OK


def phantom(args: argparse.Namespace) -> int:
    """Makes digital necks with known muscles and known fat."""
    from tqdm import tqdm

    from cervjax.phantom.dataset import write_dataset

    print(f"{args.subjects} digital neck(s), {args.severity}, in {args.output}")
    with tqdm(total=args.subjects, unit="subject") as bar:
        write_dataset(
            args.output,
            args.subjects,
            sessions=args.sessions,
            seed=args.seed,
            severity=args.severity,
            workers=args.workers,
            first=args.first,
            advance=lambda name: bar.update(),
        )
    print(f"{args.output}: scans, truth.csv, participants.tsv, derivatives/truth")
    print("Synthetic: no patient, no clinical meaning.")
    return OK


def evaluate(args: argparse.Namespace) -> int:
    """Compares predicted with reference masks: the paper's Tables 2-4, Figures 3, 4."""
    from cervjax.evaluate import run

    _check_writable(args.output)
    failed = run(
        args.predicted,
        args.reference,
        args.output,
        images=args.images,
        rival=args.compare,
    )
    return SOME_FAILED if failed else OK


def demo(args: argparse.Namespace) -> int:
    """Runs the whole job on made-up scans with an untrained network."""
    from cervjax.demo import write_scans, write_untrained_weights

    folder: Path = args.folder
    weights = folder / "untrained.safetensors"
    write_scans(folder / "scans")
    write_untrained_weights(weights)
    where = [
        str(folder / "scans"),
        "-o",
        str(folder / "out"),
        "--weights",
        str(weights),
    ]
    status = main(["infer", *where, "--overwrite"])
    print(
        f"The scans are made up and the network is untrained: {folder / 'out'} shows "
        "what results look like (measurements.csv, demo-1_qc.png), not what is in them."
    )
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cervjax",
        description="Neck muscle fat infiltration and volume from Dixon MRI. "
        "Research use only. Not for clinical use.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("infer", help="segment and measure scans")
    one.set_defaults(command=infer)
    _add_scan_flags(one)
    one.add_argument("-o", "--output", type=Path, help="folder for the results")
    one.add_argument("--weights", type=Path, help="file, work directory or checkpoint")
    one.add_argument("--landmarks", type=Path, help="of a NiftyNet checkpoint")
    one.add_argument(
        "--mode", choices=("whole", "windows"), help="default: the weights'"
    )
    for name, default in (("window", (360, 240, 32)), ("border", (8, 8, 8))):
        _add_triple(
            one, f"--{name}", default, "windows mode: voxels (default %(default)s)"
        )
    one.add_argument("--predict-border", action="store_true", help="windows mode: also "
                     "predict the outer border, which NiftyNet leaves 0")  # fmt: skip
    one.add_argument("--mirror", action=argparse.BooleanOptionalAction,
                     help="average with the mirrored scan: half as fast, nearly "
                     "symmetric (default: the weights')")  # fmt: skip
    one.add_argument(
        "--batch-size", type=_positive, default=1, help="windows in one pass"
    )
    _add_triple(
        one, "--padding", None, "voxels around the scan (default: the weights')"
    )
    one.add_argument("--padding-mode", choices=("minimum", "zero"))
    one.add_argument("--keep-last-plane", action=argparse.BooleanOptionalAction,
                     help="keep a plane that SciPy's zoom may lose")  # fmt: skip
    one.add_argument("--skip-fitting-grid", action=argparse.BooleanOptionalAction,
                     help="no spline where the scan's grid is the network's already "
                     "(default: the weights')")  # fmt: skip
    one.add_argument("--max-memory-gb", type=float, help="for the network")
    one.add_argument("--measure-on", choices=("echoes", "scanner"), default="echoes",
                     help="fat from in-phase and out-of-phase, as the paper (default), "
                     "or from the scanner's water and fat")  # fmt: skip
    one.add_argument(
        "--device", choices=("cpu", "gpu", "tpu"), help="default: the best"
    )
    one.add_argument("--overwrite", action="store_true", help="compute results again")
    one.add_argument("--dry-run", action="store_true", help="print the pairing only")

    two = commands.add_parser("convert", help="NiftyNet checkpoint <-> weights file")
    two.set_defaults(command=convert)
    two.add_argument("source", type=Path, help="as --weights of infer")
    two.add_argument(
        "target", type=Path, help="FILE.safetensors, or a checkpoint prefix"
    )
    two.add_argument("--landmarks", type=Path, help="of a NiftyNet checkpoint")
    two.add_argument("--name", help="name in the model card")

    three = commands.add_parser("landmarks", help="learn the standard histogram")
    three.set_defaults(command=landmarks)
    _add_scan_flags(three)
    three.add_argument("-o", "--output", type=Path, required=True, help="text file")
    three.add_argument("--foreground", default="threshold_plus",
                       choices=("threshold_plus", "otsu_plus", "none"))  # fmt: skip

    four = commands.add_parser("demo", help="the whole job on made-up scans")
    four.set_defaults(command=demo)
    four.add_argument("folder", type=Path, nargs="?", default=Path("demo"))

    five = commands.add_parser("phantom", help="digital necks with known truth")
    five.set_defaults(command=phantom)
    five.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    five.add_argument("--subjects", type=_positive, default=1, metavar="N")
    five.add_argument("--sessions", type=int, choices=(1, 2), default=1)
    five.add_argument("--seed", type=_natural, default=0)
    five.add_argument("--severity", choices=("clean", "clinical", "hard"),
                      default="clinical")  # fmt: skip
    five.add_argument("--first", type=_natural, default=0, metavar="K",
                      help="leave the first K subjects of the seed out")  # fmt: skip
    five.add_argument("--workers", type=_positive, default=os.cpu_count() or 1,
                      help="processes (default: one per core)")  # fmt: skip

    six = commands.add_parser(
        "evaluate", help="masks against reference masks: the paper's Tables 2-4"
    )
    six.set_defaults(command=evaluate)
    six.add_argument("predicted", type=Path, help="folder of masks, as infer writes")
    six.add_argument("reference", type=Path, help="labelled scans, or folder of masks")
    six.add_argument("-o", "--output", type=Path, required=True, help="folder")
    six.add_argument("--images", type=Path, help="the scans, if not in REFERENCE")
    six.add_argument("--compare", type=Path, metavar="FOLDER",
                     help="other predictions of the same scans")  # fmt: skip
    for command in (one, two, three, four, five, six):
        command.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def _add_scan_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scans", nargs="?", type=Path, help="folder of scans")
    for role in ("in-phase", "out-phase", "water", "fat"):
        parser.add_argument(f"--{role}", type=Path, metavar="FILE")


def _add_triple(parser: argparse.ArgumentParser, flag: str, default, text: str) -> None:
    parser.add_argument(
        flag, nargs=3, type=_natural, action=_Triple, default=default, help=text,
        metavar=("X", "Y", "Z"),
    )  # fmt: skip


class _Triple(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, tuple(values or ()))


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _scans(args: argparse.Namespace) -> tuple[list[Scan], list[Problem], Path]:
    files = (args.in_phase, args.out_phase, args.water, args.fat)
    if any(files):
        if args.scans is not None:
            raise PairingError("give a folder of scans or single files, not both")
        return [explicit_scan(*files)], [], Path(".")
    if args.scans is None:
        raise PairingError("give a folder of scans, or --in-phase F --out-phase F")
    scans, problems = find_scans(args.scans)
    return scans, problems, args.scans


def _check_writable(out: Path) -> None:
    probe = out / f".{os.getpid()}.writable"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"cervjax")
    except OSError as error:
        raise ValueError(f"cannot write into {out} ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _use_device(name: str | None) -> None:
    """Chooses the device, and where compiled programs are kept between runs."""
    import jax

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache / "cervjax" / "xla"))
    if name is not None:
        try:
            jax.config.update("jax_default_device", jax.devices(name)[0])
        except RuntimeError as error:
            raise ValueError(f"no {name} here ({error})") from error
