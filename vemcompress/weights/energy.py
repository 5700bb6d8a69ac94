"""The energy network of a run, for studying what it learnt."""

import json
from pathlib import Path

from vemcompress.errors import InputError
from vemcompress.networks.energy import EnergyConfig, EnergyModel
from vemcompress.weights.safe import read_state

FILE = "energy.safetensors"


def load_energy_model(path: str | Path) -> EnergyModel:
    """E(t, s) of a run folder, a checkpoint folder or an energy.safetensors, in eval mode. Raises InputError where
    there is none, as in a run with another add-on."""
    path = Path(path)
    if path.is_dir():
        checkpoints = path / "checkpoints"
        if (checkpoints / "latest").is_file():
            path = checkpoints / (checkpoints / "latest").read_text(errors="replace").strip()
        path = path / FILE
    if not path.is_file():
        raise InputError(f"{path}: no energy model here; give a run made with information.name=vem.")
    state = read_state(path)
    try:
        model = EnergyModel(EnergyConfig(**json.loads(state.metadata["config"])))
        weights = {k.removeprefix("energy."): v for k, v in state.tensors.items() if k.startswith("energy.")}
        model.load_state_dict(weights)
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not an energy model of vemcompress ({str(error).splitlines()[0]}).") from error
    return model.eval()
