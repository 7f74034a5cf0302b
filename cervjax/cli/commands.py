"""What each ``cervjax`` command does, given its flags: wiring, no more.

Heavy imports are inside the functions, so that ``--help`` and mistakes are quick.
"""

import argparse
import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from cervjax import __version__
from cervjax.io.scans import (
    PairingError,
    Problem,
    Scan,
    explicit_scan,
    find_scans,
    pairing_table,
)

OK, SOME_FAILED, NOT_STARTED, INTERRUPTED = 0, 1, 2, 130
"""Exit status: all well, a scan failed, nothing could be started, interrupted."""


def infer(args: argparse.Namespace) -> int:
    """Segments and measures scans."""
    scans, problems, root = _scans(args)
    if args.dry_run:
        print(pairing_table(scans, problems, root))
        return SOME_FAILED if problems else OK
    if args.output is None:
        raise ValueError("give a folder for the results: -o OUT")
    _use_device(args.device)
    from tqdm import tqdm

    from cervjax.inference.pipeline import run
    from cervjax.inference.segment import Settings, device_name
    from cervjax.inference.sliding_window import check_windows
    from cervjax.measurement.calibration import read_calibration
    from cervjax.model.weights import SHIPPED, load_weights

    _check_writable(args.output)
    weights = load_weights(args.weights or SHIPPED, args.landmarks)
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
    calibration = args.calibration and read_calibration(args.calibration)
    mode, slices_whole = args.mode or weights.card.mode, args.slices_whole
    niftynets_windows = mode == weights.card.mode == "windows"
    if slices_whole and niftynets_windows:
        raise ValueError(
            "--slices-whole needs logits at the scan's voxels; NiftyNet's windows "
            "have none: leave it out, or add --mode whole"
        )
    if slices_whole is None:
        slices_whole = weights.card.slices_whole and not niftynets_windows
    settings = Settings(
        mode=mode,
        window=args.window,
        border=args.border,
        predict_border=args.predict_border,
        passes=args.passes or weights.card.passes,
        slices_whole=slices_whole,
        batch_size=args.batch_size,
        max_memory_gb=args.max_memory_gb,
        measure_on=args.measure_on,
    )
    print(f"cervjax {__version__} on {device_name()}, {settings.mode} mode")
    print(f"weights {weights.card.name}, sha256 {weights.sha256}")
    print(f"        {weights.card.source}")
    print(weights.card.limits)
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
            calibration=calibration,
            log=bar.write,
            on_progress=lambda name: bar.update(),
        )
    done = len(scans) + len(problems) - len(failures)
    print(f"{done} scan(s) done, {len(failures)} failed")
    if failures:
        print(f"see {args.output / 'failures.csv'}", file=sys.stderr)
    return SOME_FAILED if failures else OK


def convert(args: argparse.Namespace) -> int:
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
        if args.passes:
            card = replace(card, passes=args.passes)
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


def balance(args: argparse.Namespace) -> int:
    """Shifts the last bias so that volumes are right on labelled scans."""
    from cervjax.anatomy import MUSCLES
    from cervjax.io.labels import find_labelled
    from cervjax.model.weights import load_weights, save_weights
    from cervjax.training.logit_bias import balance as balanced

    _use_device(None)
    weights = load_weights(args.source)
    card = weights.card
    if args.passes:
        card = replace(card, passes=args.passes)
    if args.slices_whole:
        card = replace(card, slices_whole=True)
    weights = weights._replace(card=card)
    scans = []
    for folder in args.scans:
        found, problems = find_labelled(folder)
        for problem in problems:
            print(f"left out: {problem.scan}: {problem.message}; {problem.hint}")
        scans += found[: args.number]
    names = ", ".join(folder.name for folder in args.scans)
    print(f"{len(scans)} labelled scan(s) of {names}", flush=True)
    of_muscle = dict(args.muscle_ratio)
    pairs = [m.abbreviation for m in MUSCLES[::2]]
    target = [of_muscle.get(name, args.volume_ratio) for name in pairs]
    weights, shift, ratio = balanced(weights, scans, target=target)
    but = "".join(f", {name} to {value:g}" for name, value in of_muscle.items())
    note = f"; volumes balanced to {args.volume_ratio:g}{but}, on {len(scans)} "
    note += f"scan(s) of {names}"
    card = replace(weights.card, source=weights.card.source + note)
    digest = save_weights(args.target, weights.variables, card)
    print(f"shifts {shift.round(2)}, volume ratios {ratio.round(3)}")
    print(f"{args.target}: sha256 {digest}")
    return OK


def landmarks(args: argparse.Namespace) -> int:
    """Learns histogram landmarks from a folder of scans."""
    from cervjax.io.dixon import read_scan
    from cervjax.io.files import write_atomically
    from cervjax.preprocessing.histogram import format_landmarks, train_landmarks
    from cervjax.preprocessing.pipeline import Recipe, to_network_grid

    scans, problems, _ = _scans(args)
    if problems:
        raise ValueError(f"{problems[0].message}; {problems[0].hint}")

    def pairs():
        for scan in scans:
            images = read_scan(scan)
            print(scan.name, flush=True)
            yield tuple(
                to_network_grid(
                    v, images.grid.spacing_mm, Recipe(), flush_denormals=False
                )
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
            on_progress=lambda name: bar.update(),
        )
    print(f"{args.output}: scans, truth.csv, participants.tsv, derivatives/truth")
    print("Synthetic: no patient, no clinical meaning.")
    return OK


def evaluate(args: argparse.Namespace) -> int:
    """Compares predicted with reference masks: the paper's Tables 2-4, Figures 3, 4."""
    from cervjax.evaluation.report import run

    _check_writable(args.output)
    failed = run(
        args.predicted,
        args.reference,
        args.output,
        images=args.images,
        baseline=args.compare,
    )
    return SOME_FAILED if failed else OK


def cohort(args: argparse.Namespace) -> int:
    """Analyses a cohort: muscles, sex, age, BMI, change between two sessions."""
    from cervjax.cohort.report import run

    run(
        args.measurements,
        args.participants,
        args.output,
        mfi_column=args.mfi_column,
        sessions=args.sessions,
        centred=not args.uncentred,
        repeated=args.repeated,
    )
    return OK


def figures(args: argparse.Namespace) -> int:
    """Draws the paper's Figures 1 and 2 of scans that have masks."""
    from cervjax.figures.paper import write_figures

    problems = write_figures(
        args.scans,
        args.masks,
        args.output,
        width_mm=args.width,
        palette=args.palette,
        page=args.page,
    )
    if problems:
        print(f"{len(problems)} not drawn, see above", file=sys.stderr)
    return SOME_FAILED if problems else OK


def demo(args: argparse.Namespace) -> int:
    """Makes two digital necks, segments them and shows the truth beside the result."""
    from cervjax.cli.demo import compare_with_truth, write_scans

    scans, out = args.folder / "scans", args.folder / "out"
    print(f"making two digital necks in {scans}", flush=True)
    write_scans(scans, os.cpu_count() or 1)
    flags = ["infer", str(scans), "-o", str(out), "--overwrite"]
    status = infer(args.parse(flags))
    print(compare_with_truth(scans, out))
    pictures = ", ".join(str(p) for p in sorted(out.glob("*_qc.png")))
    print(f"Open {pictures}; all numbers are in {out / 'measurements.csv'}.")
    return status


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
