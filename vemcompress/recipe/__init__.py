"""Recipes in TOML: teacher x student x algorithm x information, the data and the training.

A recipe may leave open what depends on the teacher (student, batch, C, weights). `resolve.py` fills that in, and the
run folder stores the result.
"""

from vemcompress.recipe.reading import (
    classes_named,
    defaults,
    find,
    folder,
    installed,
    of_stage,
    read,
    shipped,
    with_changes,
)
from vemcompress.recipe.schema import AutoStudent, PruneSettings, Recipe, TeacherSettings, TrainSettings, changed
