"""Images of a StyleGAN2: truncation about the mean of w, given w, stored and drawn noise, and its .onnx file."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from export_toys import latent_toy
from PIL import Image

from vemcompress import generate
from vemcompress.data.latents import draw, draw_noise
from vemcompress.errors import InputError, UsageError
from vemcompress.export.exporting import export_onnx
from vemcompress.networks.generators.stylegan2 import StyleGAN2
from vemcompress.weights.artifact import save_generator


def lively() -> StyleGAN2:
    """With noise that shows."""
    network = latent_toy("stylegan2")
    for conv in network.convs:
        torch.nn.init.constant_(conv.strength, 0.3)
    return network


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder, network = tmp_path_factory.mktemp("files"), lively()
    paths = {kind: folder / f"{kind}.onnx" for kind in ("float", "uint8")}
    for kind, path in paths.items():
        export_onnx(network, path, uint8=kind == "uint8")
    save_generator(folder / "g.safetensors", network)
    return {"torch": folder / "g.safetensors", **paths}


def z(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(draw("normal", 6, seed, range(count)))


def levels(images: torch.Tensor) -> np.ndarray:
    return (images * 127.5 + 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).int().detach().numpy()


def pixels(paths: list[Path]) -> np.ndarray:
    return np.stack([np.array(Image.open(path)).astype(int) for path in paths])


def near(paths: list[Path], images: torch.Tensor) -> bool:
    expected = levels(images)
    return expected.std() > 5 and np.abs(pixels(paths) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["torch", "float", "uint8"])
@pytest.mark.parametrize("truncation", [None, 0.5, 0.0])
def test_truncation_leads_to_the_mean_of_w_in_every_kind_of_file(files, kind, truncation, tmp_path):
    network = lively()
    w, share = network.styles(z(3)), 1.0 if truncation is None else truncation
    mean = network.mean_latent(4096, 0)
    found = generate(files[kind], output=tmp_path, samples=3, batch=2, truncation=truncation).written
    assert near(found, network.synthesise(mean + share * (w - mean))[0])


def test_a_stored_mean_is_the_one_that_truncation_leads_to(tmp_path):
    network = lively()
    network.mean.fill_(0.7)
    save_generator(tmp_path / "g.safetensors", network)
    export_onnx(network, tmp_path / "g.onnx")
    for name in ("g.safetensors", "g.onnx"):
        found = generate(tmp_path / name, output=tmp_path / "out", samples=2, truncation=0).written
        assert near(found, network.synthesise(torch.full((2, 6), 0.7))[0])


def test_exporting_and_drawing_leave_the_network_as_it_was(tmp_path):
    network = lively()
    export_onnx(network, tmp_path / "g.onnx")
    assert not network.mean.any()


def test_the_graphs_truncation_may_be_left_out(files):
    session = onnxruntime.InferenceSession(str(files["float"]), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["z"]
    assert [value.name for value in session.get_overridable_initializers()] == ["truncation"]
    network, vectors = lively(), z(2)
    network.settle()
    plain = session.run(None, {"z": vectors.numpy()})[0]
    nearer = session.run(None, {"z": vectors.numpy(), "truncation": np.array(0.3, np.float32)})[0]
    assert np.abs(plain - network(vectors).detach().numpy()).max() < 1e-4
    assert np.abs(nearer - network.draw(vectors, 0.3).detach().numpy()).max() < 1e-4 < np.abs(plain - nearer).max()


@pytest.mark.parametrize("layered", [False, True])
def test_given_w_are_drawn(files, layered, tmp_path):
    network = lively()
    w = network.styles(z(3))
    if layered:
        w = network.mixed(w, w.flip(0), 3)
    np.save(tmp_path / "mine.npy", w.detach().numpy().astype(np.float64))
    found = generate(files["torch"], output=tmp_path / "out", w=tmp_path / "mine.npy", batch=2).written
    assert [path.name for path in found] == [f"mine_{n:06d}.png" for n in range(3)]
    assert near(found, network.synthesise(w)[0])
    mean = network.mean_latent(4096, 0)
    nearer = generate(files["torch"], output=tmp_path / "out", w=tmp_path / "mine.npy", truncation=0.5).written
    assert near(nearer, network.synthesise((w + mean) / 2)[0])


def test_random_noise_is_of_the_seed_and_other_for_each_image(files, tmp_path):
    network = lively()
    noise = [torch.from_numpy(n) for n in draw_noise(network.noise_sides, 4, range(3))]
    assert [tuple(n.shape) for n in noise] == [(3, 1, side, side) for side in (4, 8, 8, 16, 16)]
    expected = network.synthesise(network.styles(z(3, 4)), noise=noise)[0]
    found = generate(files["torch"], output=tmp_path, samples=3, seed=4, noise="random", batch=2).written
    assert near(found, expected)
    fixed = generate(files["torch"], output=tmp_path / "fixed", samples=3, seed=4, noise="fixed").written
    assert near(fixed, network(z(3, 4))) and np.abs(pixels(fixed) - pixels(found)).max() > 10


def test_a_row_has_one_noise_and_given_vectors_that_of_the_seed(files, tmp_path):
    network = lively()
    noise = [torch.from_numpy(n) for n in draw_noise(network.noise_sides, 4, [0])]
    ends = network.synthesise(network.styles(torch.cat([z(1, 4), z(1, 5)])), noise=noise)[0]
    row = generate(files["torch"], output=tmp_path, seed=4, interpolate=5, noise="random").written
    whole = pixels(row)
    assert np.abs(np.concatenate([whole[:, :, :16], whole[:, :, -16:]]) - levels(ends)).max() <= 1
    np.save(tmp_path / "z.npy", z(1, 4).numpy())
    found = generate(files["torch"], output=tmp_path, latent=tmp_path / "z.npy", seed=4, noise="random").written
    assert near(found, ends[:1])


@pytest.mark.parametrize("option", [{"noise": "random"}, {"w": "w.npy"}])
def test_what_an_onnx_file_does_not_take_is_refused(files, option, tmp_path):
    with pytest.raises(UsageError, match=f"has no input for --{next(iter(option))}"):
        generate(files["float"], output=tmp_path, **option)
    assert generate(files["float"], output=tmp_path, samples=1, noise="fixed").images == 1


def test_w_of_another_shape_are_refused(files, tmp_path, call):
    np.save(tmp_path / "w.npy", np.zeros((2, 5, 6)))
    with pytest.raises(InputError, match="holds 2 x 5 x 6, but this model needs w, N x 6 or N x 6 x 6"):
        generate(files["torch"], output=tmp_path / "out", w=tmp_path / "w.npy")
    code, _, err = call("generate", files["torch"], "--w", tmp_path / "w.npy", "--samples", 3, "--out", tmp_path)
    assert code == 2 and "--w excludes --samples" in err
    code, _, err = call("generate", files["torch"], "--w", tmp_path / "w.npy", "--seed", 3, "--out", tmp_path)
    assert code == 2 and "--w excludes --seed" in err
    code, _, err = call("generate", files["torch"], "--noise", "none", "--out", tmp_path)
    assert code == 2 and "noise 'none': is not known; choose fixed or random" in err
