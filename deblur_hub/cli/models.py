"""`deblur-hub networks`, `convert`, `release`, `card`, `verify` and `publish`."""

import argparse
from dataclasses import replace

import torch

from .. import hub
from ..conversion import convert
from ..evaluation import table
from ..generator import DeblurGenerator
from ..hub.publishing import publish, require_access
from ..model_card import NOTHING_KNOWN, About, read_about
from ..networks import PRESETS, build_network
from ..release import release, renew_card
from .outcomes import OK, UsageError, counting


def run_networks(options: argparse.Namespace) -> int:
    width, height = options.size
    print(f"| network | parameters | multiply-adds at {width}x{height} | size multiple | receptive field | design |")
    print("|---|---|---|---|---|---|")
    for name in PRESETS:
        with torch.device("meta"):
            found = build_network(name).describe(options.size)
        costs = f"{found.parameters / 1e6:.2f} M | {found.multiply_adds / 1e9:.0f} G"
        field = found.field + ("" if found.tiles else ", not tiled")
        design = f"{found.source} ({found.licence})" + (f"; {found.note}" if found.note else "")
        print(f"| `{name}` | {costs} | {found.size_multiple} | {field} | {design} |")
    return OK


def run_convert(options: argparse.Namespace) -> int:
    converted = convert(options.source, options.output, name=options.name, overwrite=options.overwrite)
    chosen = ", ".join(f"{key} {value}" for key, value in converted.options.items()) or "its defaults"
    print(f"{options.source}: {converted.layout}; architecture '{converted.architecture}' with {chosen}")
    print(f"{len(converted.tensors)} tensors used, {len(converted.dropped)} entries dropped")
    for reason in dict.fromkeys(converted.dropped.values()):
        keys = [key for key, why in converted.dropped.items() if why == reason]
        print(f"  {len(keys)} dropped: {reason} ({keys[0]}{', ...' if len(keys) > 1 else ''})")
    print(converted.tried)
    folder = options.output if options.output.name != str(options.output) else f"./{options.output}"  # no bundled name
    print(f"written to {options.output}; try: deblur-hub deblur photo.jpg --model {folder}")
    return OK


def run_release(options: argparse.Namespace) -> int:
    if not options.name.isidentifier() and not options.name.replace("-", "_").isidentifier():
        raise UsageError(f"'{options.name}': a model's name is letters, digits and hyphens; choose another")
    about = about_of(options)
    with counting("release", "picture", options.quiet) as show:
        evaluation = release(
            options.models,
            options.name,
            options.pairs,
            options.to,
            about=replace(about, training=options.training) if options.training else about,
            pictures=options.pictures,
            metrics=options.metrics,
            progress=show,
        )
    print(table(evaluation))
    print(f"\nreleased as {options.to / options.name}")
    return OK


def run_card(options: argparse.Namespace) -> int:
    renew_card(options.model, options.results, about=about_of(options), pictures=options.pictures)
    print(f"written: {options.model / 'README.md'}")
    return OK


def about_of(options: argparse.Namespace) -> About:
    """The part of a card that cannot be measured."""
    if options.pictures and not options.about:
        raise UsageError("--pictures shows those that --about names, with their credits; give --about as well")
    return read_about(options.about) if options.about else NOTHING_KNOWN


def run_verify(options: argparse.Namespace) -> int:
    source = hub.find(options.model, revision=options.revision, variant=options.variant, golden=True)
    generator = DeblurGenerator.from_source(source, variant=options.variant, device=options.device)
    match = generator.verify(hub.read_golden(source, options.variant), precision=options.precision)
    device = next(generator.parameters()).device
    print(
        f"{source.name}: gives its golden output in {match.precision} on {device}; the largest difference is "
        f"{match.difference:.2g}, allowed are {match.tolerance:g}"
    )
    return OK


def run_publish(options: argparse.Namespace) -> int:
    if doubt := require_access(options.repo):
        raise UsageError(f"{doubt.partition(';')[0]}; try again later")
    address = publish(
        options.model,
        options.repo,
        revision=options.revision,
        private=options.private or None,
        create_pr=options.create_pr,
        commit_message=options.message,
        tag=options.tag,
    )
    print(f"{address}{f', tagged {options.tag}' if options.tag else ''}")
    return OK
