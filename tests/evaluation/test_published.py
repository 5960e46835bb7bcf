"""The published table: what it holds, and what it lets stand beside ours."""

import re
from pathlib import Path

from deblur_hub.cli import main
from deblur_hub.evaluation.protocols import PROTOCOLS
from deblur_hub.evaluation.published import CW, MATLAB, MEASURED, PER_CHANNEL, PUBLISHED, Published, table

METHODS = (
    "Sun et al.",
    "Xu et al.",
    "Nah et al.",
    "DeepDeblur",
    "DeblurGAN",
    "DeblurGAN-v2 Inception",
    "DeblurGAN-v2 MobileNet",
    "SRN",
    "PSS-NSC",
    "MT-RNN",
    "DMPHN",
    "RADN",
    "SVDN",
    "MIMO-UNet",
    "MIMO-UNet+",
    "MIMO-UNet++",
    "MPRNet",
    "Restormer",
    "NAFNet w32",
    "NAFNet w64",
)


def rows(start: str) -> list[Published]:
    found = [row for row in PUBLISHED if row.method.startswith(start)]
    assert found, start
    return found


def test_every_method_and_every_report_has_a_row():
    printed = table()
    for method in METHODS:
        assert rows(method)
        assert f"| {method}" in printed
    for number in range(5):
        assert any(re.search(rf"reports? .*\b{number}\b", row.source) for row in PUBLISHED), f"report {number}"


def test_a_printed_figure_is_one_that_can_be_true():
    for row in PUBLISHED:
        assert all(20 < float(number) < 40 for number in row.psnr.split(" to ")), row
        assert not row.ssim or 0.7 < float(row.ssim) < 1, row
        assert row.source and (row.year is None or 2010 < row.year < 2025), row


def test_a_row_stands_only_beside_a_column_of_its_own_meaning():
    meanings = {"ssim": PER_CHANNEL, "ssim_matlab": MATLAB, "cw_ssim": CW}
    for row in PUBLISHED:
        assert bool(row.protocol) == bool(row.beside)
        if row.protocol:
            protocol = PROTOCOLS[row.protocol]
            assert set(row.beside) <= set(protocol.metrics)
            assert row.dataset.lower().startswith(row.protocol.partition("-gamma")[0])
            assert row.blur in ("not said", "gamma" if protocol.blur_folder == "blur_gamma" else "linear")
            assert protocol.size is None or row.size == "{}x{}".format(*protocol.size)
        assert all(row.ssim and row.which_ssim == meanings[name] for name in row.beside if name != "psnr")


def test_resized_pictures_stand_beside_nothing_and_say_their_size():
    resized = [row for row in PUBLISHED if row.group == "resized"]
    assert {row.size for row in resized} >= {"256x256", "224x224", "448x448", "640x360"}
    assert not any(row.beside for row in resized)
    assert all(row.group == "resized" for row in PUBLISHED if row.source.startswith(("report 0", "report 4")))


def test_svdn_and_dmphn_are_not_swapped():
    assert [(row.psnr, row.ssim) for row in rows("SVDN")] == [("29.81", "0.937")]
    assert [(row.psnr, row.ssim) for row in rows("DMPHN")] == [("31.20", "0.945")]


def test_what_users_measured_contradicts_the_print():
    for method, printed, measured in (
        ("DeblurGAN", "28.7", "25.20"),
        ("DeblurGAN-v2 Inception", "29.55", "27.66"),
        ("DeblurGAN-v2 MobileNet", "28.17", "26.89"),
    ):
        found = {row.psnr: row for row in PUBLISHED if row.method.partition(",")[0] == method}
        assert found[printed].group == "other"
        assert "cannot reproduce" in found[printed].note
        assert found[measured].group == "comparable" and found[measured].source.startswith("measured: ")


def test_a_self_ensemble_is_called_one():
    (row,) = rows("MIMO-UNet++")
    assert "ensemble" in row.at_test and "no network of its own" in row.note


def test_a_figure_from_memory_is_marked_in_print():
    for row in PUBLISHED:
        if row.unverified:
            line = next(line for line in table([row]).splitlines() if line.startswith(f"| {row.method}"))
            assert f"{row.psnr} dB?" in line
            assert "unverified" in table([row])
    assert "unverified" not in table([row for row in PUBLISHED if not row.unverified])


def test_every_note_has_its_number_and_every_number_its_note():
    printed, notes = table().split("## Notes")
    used = set(re.findall(r"\[(\d+)\] \|", printed))
    assert used == set(re.findall(r"^\[(\d+)\] ", notes, flags=re.MULTILINE))


def test_the_table_is_markdown_that_lines_up():
    blocks = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", table(), flags=re.MULTILINE)]
    assert len(blocks) >= 3
    for block in blocks:
        assert len({len(line) for line in block}) == 1
        assert len({line.count("|") for line in block}) == 1
        assert re.fullmatch(r"\|(-+:?\|)+", block[1])


def test_the_shell_prints_it_without_a_model_or_a_dataset(capsys):
    assert main(["evaluate", "--published"]) == 0
    assert capsys.readouterr().out.strip() == table().strip()


def test_what_we_measure_of_authors_weights_is_in_the_results_and_beside_what_they_print():
    results = (Path(__file__).parents[2] / "RESULTS.md").read_text()
    table_of_pairs = results[results.index("## Pairs") : results.index("### ")]
    named = {"best, in windows": "maxim, best", "balanced: its first stage": "maxim, balanced"}
    for row in MEASURED:
        name = named.get(row.how, "SRN (its authors')")
        (line,) = [line for line in table_of_pairs.splitlines() if line.startswith(f"| {name} ")]
        assert f" {row.psnr:.2f} dB " in line and f" {row.ssim_matlab:.4f} " in line
        assert row.command in results.replace(" --metrics features,edges", "")
        (printed,) = [line for line in table().splitlines() if f"| {row.how} " in line and row.command in line]
        assert f" {row.psnr:.2f} dB " in printed and f" {row.ssim_matlab:.4f} (M) " in printed
    assert "blurry input: 24.20 dB" in table()
