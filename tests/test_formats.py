"""docs/formats.md says what is so."""

from pathlib import Path

import pytest

pytest.importorskip("imagecodecs")
pytest.importorskip("pillow_heif")
pytest.importorskip("pillow_jxl")
pytest.importorskip("rawpy")

from tests.formats_table import cameras_table, metadata_table, modes_table, page

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_page_of_formats_is_what_is_measured():
    assert (ROOT / "docs/formats.md").read_text() == page(), "python -m tests.formats_table > docs/formats.md"


@pytest.mark.slow
def test_nothing_is_lost_without_a_word(tmp_path):
    cells = {cell for row in metadata_table(tmp_path)[1:] for cell in row[2:]}
    assert cells == {"kept", "said", "-"}


@pytest.mark.slow
def test_what_cameras_write_comes_back_whole(tmp_path):
    for name, _, result, *cells in cameras_table(tmp_path)[1:]:
        assert result != "changed" and set(cells) <= {"kept", "said", "upright", "-"}, (name, result, cells)


@pytest.mark.slow
def test_every_kind_of_picture_has_a_format_that_keeps_it(tmp_path):
    for row in modes_table(tmp_path)[1:]:
        assert "kept" in row, row
