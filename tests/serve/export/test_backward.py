"""The written-out backward passes against PyTorch's own, for every odd setting that changes a shape."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from cutaway.serve.export.backward import decompositions


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


CONVOLUTION, TRANSPOSED = random(6, 2, 3, 2), random(4, 3, 3, 2)

CASES = {
    "convolution": lambda x: F.conv2d(x, CONVOLUTION, groups=2),
    "convolution whose stride leaves rows over": lambda x: F.conv2d(x, CONVOLUTION, stride=(3, 2), padding=1, groups=2),
    "dilated convolution": lambda x: F.conv2d(x, CONVOLUTION, dilation=(2, 3), padding=(2, 1), groups=2),
    "transposed convolution": lambda x: F.conv_transpose2d(x, TRANSPOSED, stride=2, padding=1, output_padding=1),
    "max pooling": lambda x: F.max_pool2d(x, 2),
    "overlapping max pooling": lambda x: F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True),
    "adaptive max pooling": lambda x: F.adaptive_max_pool2d(x, (3, 2)),
    "average pooling": lambda x: F.avg_pool2d(x, 2),
    "overlapping average pooling": lambda x: F.avg_pool2d(x, (3, 2), stride=(2, 1), padding=1),
    "average pooling without padding": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
    "average pooling that hangs over": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True),
    "average pooling that hangs over, without padding": lambda x: F.avg_pool2d(
        x, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False
    ),
    "average pooling with its own divisor": lambda x: F.avg_pool2d(x, 3, stride=2, divisor_override=5),
    "adaptive average pooling": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive average pooling that enlarges": lambda x: F.adaptive_avg_pool2d(x, (17, 13)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_pytorch_s(name):
    x = random(2, 4, 11, 8)

    def gradient(x):
        x = x.detach().requires_grad_()
        out = CASES[name](x)
        return torch.autograd.grad(out, x, torch.linspace(-1, 1, out.numel(), dtype=x.dtype).reshape(out.shape))

    traced = make_fx(gradient, decomposition_table=dict(decompositions()))(x)
    left = {str(node.target) for node in traced.graph.nodes if "backward" in str(node.target)}
    assert not left
    torch.testing.assert_close(traced(x), gradient(x), rtol=1e-12, atol=1e-12)
