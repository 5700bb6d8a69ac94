"""Sheets of pictures."""

import numpy as np
import torch

from vemcompress.runs.pictures import GAP, HEADER, image_grid


def test_each_column_has_its_images_at_their_places():
    columns = [torch.full((2, 3, 4, 6), value) for value in (-1.0, 1.0)]
    sheet = image_grid(columns, ["a", "b"])
    assert sheet.shape == (HEADER + 2 * (4 + GAP), GAP + 2 * (6 + GAP), 3)
    assert (sheet[HEADER : HEADER + 4, GAP : GAP + 6] == 0).all()
    assert (sheet[HEADER : HEADER + 4, 2 * GAP + 6 : 2 * GAP + 12] == 255).all()


def test_small_inputs_beside_large_outputs_fill_their_cells():
    small = torch.tensor([[[[-1.0, 1.0], [1.0, -1.0]]]])
    sheet = image_grid([small, torch.ones(1, 3, 8, 8)], ["input", "student"])
    cell = sheet[HEADER : HEADER + 8, GAP : GAP + 8, 0]
    assert np.array_equal(cell, np.kron([[0, 255], [255, 0]], np.ones((4, 4))))
