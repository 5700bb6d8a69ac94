"""Loads the energy network of a run, for analysis."""

from contextlib import suppress
from pathlib import Path

from vemcompress.errors import InputError, first_line
from vemcompress.networks.energy import EnergyConfig, EnergyModel
from vemcompress.system.files import parse_json, read_text
from vemcompress.weights.layouts import Mismatch, assemble
from vemcompress.weights.safe import read_state

FILE = "energy.safetensors"


def load_energy_model(path: str | Path) -> EnergyModel:
    """VEM's energy model E(t, s) of a run, in eval mode, to study what it learnt.

        energy = vemcompress.load_energy_model("runs/small")
        values = energy(teacher_images, student_images)

    Arguments:
        path: a run folder, a checkpoint's folder, or an energy.safetensors file.

    Returns:
        EnergyModel: takes two batches of images, each B x 3 x H x W in [-1, 1], and gives the energies, B x
        1.

    Raises:
        InputError if there is none, for example in a run with another add-on.
    """
    path = Path(path)
    if path.is_dir():
        checkpoints = path / "checkpoints"
        with suppress(OSError, ValueError):  # a checkpoint folder has none
            path = checkpoints / Path(read_text(checkpoints / "latest").strip()).name
        path = path / FILE
    if not path.is_file():
        raise InputError(f"{path}: no energy model here; give a run made with information.name=vem.")
    state = read_state(path)
    try:
        of_run = {k.removeprefix("energy."): v for k, v in state.tensors.items() if k.startswith("energy.")}
        tensors = of_run or state.tensors
        return assemble(EnergyConfig(**parse_json(state.metadata["config"])), tensors, build=EnergyModel)
    except (KeyError, ValueError, TypeError, Mismatch) as error:
        raise InputError(f"{path}: not an energy model of vemcompress ({first_line(error)}).") from error
