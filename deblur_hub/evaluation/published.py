"""Scores as papers and reports print them, each with the protocol behind it, and what may stand beside ours.

    print(table())      # deblur-hub evaluate --published

Nothing of it was measured by us, but for the last table: authors' weights that went through our code. A figure that
could not be looked up where it was printed is marked as unverified; a figure that users contradict stands beside what
they measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .tables import markdown

Group = Literal["comparable", "other", "resized"]
FULL = "1280x720"
MATLAB, CW, PER_CHANNEL, NOT_SAID = "MATLAB, 3-D", "CW-SSIM", "per channel", "not said"
SHORT = {MATLAB: "(M)", CW: "(CW)", PER_CHANNEL: "(C)"}
ROUNDED, CUT, FLOAT = "rounded", "cut off", "not rounded"


@dataclass(frozen=True)
class Published:
    """One printed score.

    Attributes:
        method, year: the network, and when its paper appeared; None where there is none.
        dataset: test set, and what the network was trained on where tables differ in that.
        psnr, ssim: as printed, with as many digits; a range where no mean is given, "" where nothing is printed.
        which_ssim: the definition that the authors' code computes.
        size: of the pictures when they were scored.
        rounding: of the restored samples before they were scored.
        blur: GoPro's folder of blurred pictures.
        at_test: what was done beside one pass of the network.
        source: where it is printed.
        protocol: of ours under which a number may stand beside it; "" for none.
        beside: the columns of ours that it may stand beside.
        note: why the others may not, and what contradicts it.
        unverified: the figure is quoted from memory.
    """

    method: str
    year: int | None
    psnr: str
    ssim: str
    source: str
    dataset: str = "GoPro"
    which_ssim: str = NOT_SAID
    size: str = FULL
    rounding: str = NOT_SAID
    blur: str = NOT_SAID
    at_test: str = "one pass"
    protocol: str = ""
    beside: tuple[str, ...] = ()
    note: str = ""
    unverified: bool = False

    @property
    def group(self) -> Group:
        if self.protocol:
            return "comparable"
        return "other" if self.size in (FULL, NOT_SAID) else "resized"


README = "authors' README"
LAB = "paper, as report 2 prints it"  # its table of published methods
REPRINTED = "paper, as later ones print it"
V2_TABLE = "DeblurGAN-v2's README"
REPORTS = {
    0: "a Keras DeblurGAN at 256x256",
    1: "a Keras DeblurGAN at 256x256",
    2: "a ResNet-GAN with BCE and L1 at 640x360",
    3: "a GAN at 448x448 and an autoencoder with dilations and attention at 224x224",
    4: "a Keras DeblurGAN and a U-Net",
}
ECC = "as reprinted; without the script's alignment MIMO-UNet+ has 28.99 dB in place of 32.05 (chosj95/MIMO-UNet#25)"
NOT_REPRODUCED = "users cannot reproduce it, by training or with the released weights: see what they measured"

PUBLISHED: tuple[Published, ...] = (
    # Full frames of GoPro, in RGB, averaged over the 1111 pictures ---------------------------------------------------
    Published(
        "blurry input",
        None,
        "25.6",
        "",
        "quoted by others",
        blur="linear",
        protocol="gopro",
        beside=("psnr",),
        unverified=True,
        note="measure it: deblur-hub evaluate identity GOPRO_Large --protocol gopro",
    ),
    Published(
        "DeblurGAN, released weights",
        2018,
        "25.20",
        "",
        "measured: KupynOrest/DeblurGAN#106",
        rounding=CUT,
        protocol="gopro",
        beside=("psnr",),
        note="the program that wrote the pictures cuts the fraction off; 28.7 dB printed, below; others have 25.5 dB "
        "(#124), and 26.02 dB by training again (#57), at a size that is not said",
    ),
    Published(
        "DeblurGAN-v2 Inception, trained again",
        2019,
        "26.58",
        "0.8968",
        "measured: VITA-Group/DeblurGANv2#102",
        rounding=CUT,
        protocol="gopro",
        beside=("psnr",),
        note="another in the same thread has 27.02 dB and SSIM 0.8866; which SSIM is not said",
    ),
    Published(
        "DeblurGAN-v2 MobileNet, released weights",
        2019,
        "26.89",
        "0.814",
        "measured: VITA-Group/DeblurGANv2#60",
        rounding=CUT,
        protocol="gopro",
        beside=("psnr",),
        note="28.17 dB printed, below; which SSIM is not said",
    ),
    Published(
        "DeblurGAN-v2 Inception, released weights",
        2019,
        "27.66",
        "0.850",
        "measured: VITA-Group/DeblurGANv2#11",
        rounding=CUT,
        protocol="gopro",
        beside=("psnr",),
        note="29.55 dB printed, below; which SSIM is not said",
    ),
    Published(
        "SRN, lstm, released weights",
        2018,
        "30.19",
        "0.9334",
        README,
        which_ssim=MATLAB,
        rounding=CUT,
        protocol="gopro",
        beside=("psnr", "ssim_matlab"),
    ),
    Published(
        "SRN",
        2018,
        "30.26",
        "0.934",
        LAB,
        which_ssim=MATLAB,
        rounding=CUT,
        protocol="gopro",
        beside=("psnr", "ssim_matlab"),
    ),
    Published(
        "PSS-NSC", 2019, "30.92", "0.942", LAB, rounding=CUT, protocol="gopro", beside=("psnr",), note="only test code"
    ),
    Published("MT-RNN", 2020, "31.15", "", README, protocol="gopro", beside=("psnr",), at_test="6 or 7 iterations"),
    Published(
        "DMPHN 1-2-4-8",
        2019,
        "31.20",
        "0.945",
        LAB,
        blur="linear",
        protocol="gopro",
        beside=("psnr",),
        note="tables in MPRNet's manner print SSIM 0.940 for it",
    ),
    Published(
        "MIMO-UNet",
        2021,
        "31.73",
        "0.951",
        README,
        rounding=FLOAT,
        protocol="gopro",
        beside=("psnr",),
        note="users who trained it again have 31.36 to 31.60 dB (chosj95/MIMO-UNet#17)",
    ),
    Published("MIMO-UNet+", 2021, "32.45", "0.957", README, rounding=FLOAT, protocol="gopro", beside=("psnr",)),
    Published(
        "MIMO-UNet++",
        2021,
        "32.68",
        "0.959",
        README,
        rounding=FLOAT,
        at_test="4x self-ensemble",
        protocol="gopro",
        beside=("psnr",),
        note="no network of its own: MIMO-UNet+ in four passes over each picture",
    ),
    Published(
        "MPRNet",
        2021,
        "32.66",
        "0.959",
        README,
        which_ssim=MATLAB,
        rounding=ROUNDED,
        blur="linear",
        protocol="gopro",
        beside=("psnr", "ssim_matlab"),
    ),
    Published(
        "NAFNet w32",
        2022,
        "32.87",
        "0.9606",
        README,
        which_ssim=MATLAB,
        rounding=ROUNDED,
        blur="linear",
        at_test="TLC",
        protocol="gopro",
        beside=("psnr", "ssim_matlab"),
        note="TLC pools in windows of 384 pixels at test time, which gains about 0.6 dB at this size",
    ),
    Published(
        "MAXIM-3S",
        2022,
        "32.86",
        "0.961",
        README,
        rounding=FLOAT,
        protocol="gopro",
        beside=("psnr",),
        note="whole frames; what we measure of its weights is below",
    ),
    Published(
        "Restormer",
        2022,
        "32.92",
        "0.961",
        REPRINTED,
        which_ssim=MATLAB,
        rounding=ROUNDED,
        protocol="gopro",
        beside=("psnr", "ssim_matlab"),
    ),
    Published(
        "NAFNet w64, without TLC",
        2022,
        "33.08",
        "",
        "measured: megvii-research/NAFNet#73",
        rounding=ROUNDED,
        blur="linear",
        protocol="gopro",
        beside=("psnr",),
    ),
    Published(
        "NAFNet w64",
        2022,
        "33.71",
        "0.9668",
        README,
        which_ssim=MATLAB,
        rounding=ROUNDED,
        blur="linear",
        at_test="TLC",
        protocol="gopro",
        beside=("psnr", "ssim_matlab"),
        note="per channel its SSIM is 0.9479: the same pictures, 0.019 less",
    ),
    Published(
        "DeepDeblur, PyTorch version",
        2017,
        "30.40",
        "0.902",
        README,
        which_ssim=PER_CHANNEL,
        blur="gamma",
        protocol="gopro-gamma",
        beside=("psnr", "ssim"),
        note="on the other folder of blurred pictures: beside --blur gamma, not beside the rows above",
    ),
    # Other sets ------------------------------------------------------------------------------------------------------
    *(
        Published(
            method,
            year,
            psnr,
            ssim,
            REPRINTED,
            dataset="HIDE, trained on GoPro",
            which_ssim=which,
            rounding=rounding,
            protocol="hide",
            beside=("psnr", "ssim_matlab") if which == MATLAB else ("psnr",),
        )
        for method, year, psnr, ssim, which, rounding in (
            ("SRN", 2018, "28.36", "0.915", MATLAB, CUT),
            ("MIMO-UNet+", 2021, "29.99", "0.930", NOT_SAID, FLOAT),
            ("MPRNet", 2021, "30.96", "0.939", MATLAB, ROUNDED),
            ("Restormer", 2022, "31.22", "0.942", MATLAB, ROUNDED),
        )
    ),
    *(
        Published(
            method,
            year,
            psnr,
            ssim,
            REPRINTED,
            dataset=f"RealBlur-{half.upper()}, trained on {trained}",
            size="its own",
            which_ssim=PER_CHANNEL,
            protocol=f"realblur-{half}",
            beside=("psnr", "ssim"),
            note=ECC,
        )
        for method, year, half, trained, psnr, ssim in (
            ("MIMO-UNet+", 2021, "j", "GoPro", "27.63", "0.837"),
            ("SRN", 2018, "j", "RealBlur", "31.38", "0.909"),
            ("MPRNet", 2021, "j", "RealBlur", "31.76", "0.922"),
            ("MIMO-UNet+", 2021, "j", "GoPro and RealBlur", "32.05", "0.921"),
            ("MIMO-UNet+", 2021, "r", "GoPro", "35.54", "0.947"),
            ("SRN", 2018, "r", "RealBlur", "38.65", "0.965"),
            ("MPRNet", 2021, "r", "RealBlur", "39.31", "0.972"),
        )
    ),
    # Protocols that are not known, or that nobody can repeat ----------------------------------------------------------
    Published(
        "Sun et al.",
        2015,
        "24.6",
        "0.842",
        "DeblurGAN's paper",
        size=NOT_SAID,
        unverified=True,
        note="in the table of another paper, at a size that it does not name",
    ),
    Published(
        "Xu et al.",
        None,
        "25.1",
        "0.89",
        "DeblurGAN's paper",
        size=NOT_SAID,
        unverified=True,
        note="in the table of another paper, at a size that it does not name",
    ),
    Published(
        "Nah et al. (DeepDeblur)",
        2017,
        "28.3",
        "",
        "report 1's table",
        size=NOT_SAID,
        note="lower than 29.23 dB elsewhere; size and folder are not said",
    ),
    Published(
        "Nah et al. (DeepDeblur)",
        2017,
        "29.23",
        "0.916",
        f"{V2_TABLE}, report 2's table",
        note="which folder of blurred pictures, which SSIM and what rounding are not said; its PyTorch version says so",
    ),
    Published(
        "DeblurGAN",
        2018,
        "28.7",
        "0.958",
        "paper",
        which_ssim=CW,
        size=NOT_SAID,
        rounding=CUT,
        note=f"{NOT_REPRODUCED}; CW-SSIM reads far higher than SSIM (0.956 where that has 0.856), and DeblurGAN-v2's "
        "table prints 0.927 for the same network; its code reduces frames to 640x360 by default",
    ),
    Published(
        "DeblurGAN-v2 MobileNet",
        2019,
        "28.17",
        "0.925",
        V2_TABLE,
        which_ssim=CW,
        rounding=CUT,
        note=NOT_REPRODUCED,
    ),
    Published(
        "DeblurGAN-v2 Inception",
        2019,
        "29.55",
        "0.934",
        V2_TABLE,
        which_ssim=CW,
        rounding=CUT,
        note=NOT_REPRODUCED,
    ),
    Published(
        "SVDN",
        2020,
        "29.81",
        "0.937",
        LAB,
        note="no code, so that folder, rounding and SSIM are not known; report 2 names DMPHN's paper as its source",
    ),
    Published(
        "RADN",
        2020,
        "31.76",
        "0.953",
        f"{LAB} (arXiv 1903.11394)",
        note="no code, so that folder, rounding and SSIM are not known",
    ),
    Published(
        "Li et al.",
        2023,
        "29.3",
        "0.72",
        "arXiv 2312.09496",
        size=NOT_SAID,
        note="a DeblurGAN in TensorFlow, which report 3 quotes; size, which SSIM and rounding are not said",
    ),
    # The five reports -------------------------------------------------------------------------------------------------
    Published("Keras DeblurGAN", None, "25.4", "0.821", "report 4", size="256x256"),
    Published("Keras DeblurGAN", None, "26.42", "0.87", "reports 0 and 1", size="256x256"),
    Published("ResNet-GAN, BCE and L1", None, "23.98", "0.760", "report 2", size="640x360"),
    Published("GAN of 8.1 M parameters", None, "27.24", "0.857", "report 3", size="448x448"),
    Published("autoencoder, dilations and attention", None, "26.95", "0.839", "report 3", size="224x224"),
    Published(
        "shallow U-Net",
        None,
        "22.7 to 27.3",
        "",
        "report 4",
        size="resized, not said to what",
        note="the range over pictures; no mean is printed",
    ),
)


@dataclass(frozen=True)
class Measured:
    """What we measure of authors' weights, on `MEASURED_ON`.

    Attributes:
        printed: the method in `PUBLISHED` whose weights they are.
        how: the quality, or what else is ours.
        psnr, ssim_matlab: means, in float32.
        command: that measures it again.
    """

    printed: str
    how: str
    psnr: float
    ssim_matlab: float
    command: str


MEASURED_ON = "5 of the 1111 test pairs (blurry input: 24.20 dB, 0.8075 (M)), not the 1111 that the printed mean is of"
MEASURED = tuple(
    Measured(printed, how, psnr, ssim, f"deblur-hub evaluate {model} eval/gopro --precision float32")
    for printed, how, psnr, ssim, model in (
        ("MAXIM-3S", "best, in windows", 33.54, 0.9608, "maxim --quality best"),
        ("MAXIM-3S", "balanced: its first stage", 31.88, 0.9464, "maxim --quality balanced"),
        ("SRN", "color, whole frames", 29.44, 0.9192, "srn/"),
    )
)

HEADINGS: dict[Group, str] = {
    "comparable": "May stand beside ours in the columns named, under --protocol {}",
    "other": "May not stand beside ours: the protocol is not known, or the figure is not reproduced",
    "resized": "May not stand beside any paper's: pictures made smaller first, and their blur with them",
}
REMARKS = (
    "SSIM has three meanings: (C), per channel, our ssim; (M), MATLAB's in three dimensions, our ssim_matlab, which "
    "reads about 0.02 higher; (CW), CW-SSIM, about 0.1 higher. Where none is named, the number may stand in no column.",
    "At 30 dB, samples that are cut off to whole levels score about 0.02 dB less than rounded ones, and samples that "
    "are not rounded 0.01 dB more. Where the folder of blurred pictures is not said, 'blur' is what most tables use.",
    "Report 2 mixes up its references [23] and [24]: 29.81 dB is SVDN's and 31.20 dB is DMPHN's.",
    "'MIMO-UNET++' is no third network, as reports have it, but a self-ensemble of MIMO-UNet+.",
    'Report 1 says that its 26.42 dB beat "CNN-based approaches"; its own table has Nah et al. at 28.3 dB.',
    "All five reports resize their pictures before they score them (256x256, 224x224, 448x448, 640x360), and quote "
    "tables of full frames beside them. --protocol resized-256 gives a number to hold against those at 256x256.",
    "The reports: " + "; ".join(f"{number} {what}" for number, what in REPORTS.items()) + ".",
)


def table(rows: Iterable[Published] = PUBLISHED) -> str:
    """All rows as Markdown tables that read well in a terminal, in groups by what they may stand beside."""
    sections: dict[tuple[Group, str], list[Published]] = {}
    for group in HEADINGS:
        for row in rows:
            if row.group == group:
                sections.setdefault((group, row.protocol), []).append(row)
    notes: list[str] = []
    blocks = []
    for (group, protocol), chosen in sections.items():
        header = ["method", *(["may stand beside"] if protocol else []), "how", "printed in", "PSNR", "SSIM", "note"]
        lines = [cells(row, notes) for row in chosen]
        heading = HEADINGS[group].format(protocol.replace("gopro-gamma", "gopro --blur gamma"))
        blocks.append(f"## {heading}\n\n{markdown(header, lines, left=len(header) - 3)}")
    blocks.append(measured())
    listed = "\n".join(f"[{number}] {note}" for number, note in enumerate(notes, start=1))
    remarks = "\n".join(f"- {remark}" for remark in REMARKS)
    return "\n\n".join([*blocks, "## Notes", listed, remarks])


def measured() -> str:
    """What authors print of their weights, and what we measure of them."""
    lines = []
    for row in MEASURED:
        (printed,) = (found for found in PUBLISHED if found.method == row.printed and found.dataset == "GoPro")
        lines.append(
            [
                f"{row.printed} ({printed.year})",
                row.how,
                f"{printed.psnr} dB, {printed.ssim}",
                f"{row.psnr:.2f} dB",
                f"{row.ssim_matlab:.4f} (M)",
                row.command,
            ]
        )
    header = ["authors' weights", "how", "printed, of 1111", "PSNR, of 5", "SSIM, of 5", "command"]
    return f"## What we measure of authors' weights, on {MEASURED_ON}\n\n{markdown(header, lines, left=3)}"


def cells(row: Published, notes: list[str]) -> list[str]:
    """A line of the table; its note goes to `notes`, once, and its number into the line."""
    note = row.note
    if row.unverified:
        note = "unverified, quoted from memory" + (f"; {note}" if note else "")
    if note and note not in notes:
        notes.append(note)
    return [
        f"{row.method} ({row.year})" if row.year else row.method,
        *([", ".join(row.beside)] if row.protocol else []),
        how(row),
        row.source,
        f"{row.psnr} dB" + ("?" if row.unverified else ""),
        f"{row.ssim}{'?' if row.unverified else ''} {SHORT.get(row.which_ssim, '')}".strip() if row.ssim else "-",
        f"[{notes.index(note) + 1}]" if note else "",
    ]


def how(row: Published) -> str:
    """What is known of the protocol, but for what the heading and the columns say."""
    known = [
        "" if row.dataset == "GoPro" else row.dataset.partition(", ")[2],
        "" if row.size in (FULL, "its own") else "size not said" if row.size == NOT_SAID else row.size,
        "" if row.blur == NOT_SAID else f"blur {row.blur}",
        "" if row.rounding == NOT_SAID else row.rounding,
        "" if row.at_test == "one pass" else row.at_test,
    ]
    return ", ".join(filter(None, known)) or NOT_SAID
