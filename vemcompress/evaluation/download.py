"""The Inception's weights from where pytorch-fid publishes them."""

from pathlib import Path

import pytorch_fid.inception

from vemcompress.weights.download import downloaded

# Of the file at pytorch_fid.inception.FID_WEIGHTS_URL, whose name carries the first eight digits.
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def downloaded_inception() -> Path:
    """The weights' file in torch.hub's folder; raises as `downloaded`."""
    url = pytorch_fid.inception.FID_WEIGHTS_URL
    return downloaded(
        url,
        INCEPTION_SHA256,
        failed=f"the Inception weights could not be had from {url}",
        remedy="go online, or give the file with --inception PATH (in training --set train.inception=PATH)",
    )
