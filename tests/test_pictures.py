"""Sheets of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from vemcompress.data.images import save_png
from vemcompress.runs.pictures import GAP, LINE, SHOWN, TITLE, WIDEST, Layout, image_grid, sheet_of

LONG = "step 1,200 of 3,000\nssim_teacher 0.8716 (higher is better; best so far: 0.8750 at step 800)"


def test_each_column_has_its_images_at_their_places():
    columns = [torch.full((2, 3, 200, 300), value) for value in (-1.0, 1.0)]
    sheet = image_grid(columns, ["a", "b"])
    assert sheet.shape == (TITLE + 2 * (200 + GAP), GAP + 2 * (300 + GAP), 3)
    assert (sheet[TITLE : TITLE + 200, GAP : GAP + 300] == 0).all()
    assert (sheet[TITLE : TITLE + 200, 2 * GAP + 300 : 2 * GAP + 600] == 255).all()


def test_small_inputs_beside_large_outputs_fill_their_cells():
    small = torch.tensor([[[[-1.0, 1.0], [1.0, -1.0]]]])
    sheet = image_grid([small, torch.ones(1, 3, 200, 200)], ["input", "student"])
    cell = sheet[TITLE : TITLE + 200, GAP : GAP + 200, 0]
    assert np.array_equal(cell, np.kron([[0, 255], [255, 0]], np.ones((100, 100))))


@pytest.mark.parametrize(("side", "columns", "shown"), [(64, 3, 256), (96, 3, 192), (129, 3, 129), (64, 16, 64)])
def test_small_images_are_enlarged_by_a_whole_number_as_far_as_the_sheet_is_not_too_wide(side, columns, shown):
    sheet = image_grid([torch.zeros(1, 3, side, side)] * columns, ["x"] * columns)
    assert sheet.shape[1] == GAP + columns * (shown + GAP) and shown <= SHOWN and sheet.shape[1] <= WIDEST


@pytest.mark.parametrize("columns", [1, 3])
def test_a_header_stands_above_the_titles_in_as_many_lines_as_it_needs(columns, tmp_path):
    images = {f"title {n}": torch.zeros(1, 3, 150, 150) for n in range(columns)}
    picture, text = sheet_of(images, images["title 0"], LONG)
    save_png(tmp_path / "a.png", picture, text)
    with Image.open(tmp_path / "a.png") as image:
        layout = Layout.read(image.text[Layout.KEY], image.size)
    assert layout.top > TITLE + (2 if columns > 1 else 4) * LINE
    dark = (picture < 128).all(axis=2)
    assert dark[: layout.titled].any() and dark[layout.titled : layout.top].any()
    assert not dark[:, -GAP:].any() and not dark[layout.top - 1].any()  # nothing is cut off at an edge
    assert (picture[layout.box(0, 0)[1], GAP] == 128).all()
