"""Small torch networks, one for each way in which axes meet, and what is to be found in them."""

import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    """Layers by name, and a function that runs them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *x):
        return self.run(self, *x)


def fused_attention(order):
    """Queries, keys and values in one product, cut into 3, heads and width in some order."""

    def run(m, x):
        b, s, _ = x.shape
        if order == "parts first":
            q, k, v = m.qkv(x).view(b, s, 3, 2, 5).permute(2, 0, 3, 1, 4)
        else:
            part = m.qkv(x).view(b, s, 2, 3, 5).transpose(1, 2)
            q, k, v = part[..., 0, :], part[..., 1, :], part[..., 2, :]
        scores = (q @ k.transpose(-1, -2)).softmax(-1)
        return m.out((scores @ v).transpose(1, 2).reshape(b, s, 10))

    return Net(run, qkv=nn.Linear(7, 30), out=nn.Linear(10, 3))


def residual(m, x):
    h = m.a(x)
    return m.c(h + torch.relu(m.b(h)))


def rotary(m, x):
    q = m.q(x)
    low, high = q[..., :3], q[..., 3:]
    angle = torch.arange(4.0, device=x.device).to(x.dtype)[:, None] * 0.1 + torch.arange(3.0).to(x)
    cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()
    turned = q * cos + torch.cat([-high, low], -1) * sin
    return m.o(turned * m.k(x))


def concatenated(m, x):
    return m.c(torch.cat([m.a(x), m.b(x)], -1))


def chosen(m, x):
    return m.b(torch.sort(m.a(x), -1).values)


def grouped(m, x):
    return m.b(torch.relu(m.a(m.first(x)))).mean((2, 3))


NETS = {
    # name: (network, input shape, sizes of the groups, with their parents')
    "chain": (
        nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.GELU(), nn.Linear(6, 3)),
        (2, 5),
        [(6, None), (7, None)],
    ),
    "residual": (
        Net(residual, a=nn.Linear(5, 7), b=nn.Linear(7, 7), c=nn.Linear(7, 3)),
        (2, 5),
        [(7, None)],
    ),
    "glu": (
        Net(lambda m, x: m.b(functional.glu(m.a(x), -1)), a=nn.Linear(5, 12), b=nn.Linear(6, 3)),
        (2, 5),
        [(6, None)],
    ),
    "cat": (
        Net(concatenated, a=nn.Linear(5, 7), b=nn.Linear(5, 4), c=nn.Linear(11, 3)),
        (2, 5),
        [(4, None), (7, None)],
    ),
    "group norm": (
        Net(
            lambda m, x: m.b(torch.relu(m.n(m.a(x)))).mean((2, 3)),
            a=nn.Conv2d(3, 6, 3),
            n=nn.GroupNorm(2, 6),
            b=nn.Conv2d(6, 4, 1),
        ),
        (2, 3, 5, 5),
        [(2, None), (3, 2)],
    ),
    "grouped convolution": (
        Net(
            grouped,
            first=nn.Conv2d(3, 6, 3),
            a=nn.Conv2d(6, 10, 3, groups=2),
            b=nn.Conv2d(10, 4, 1),
        ),
        (2, 3, 7, 7),
        [(2, None), (3, 2), (5, 2)],
    ),
    "depthwise and transposed": (
        Net(
            lambda m, x: m.c(m.b(m.a(x))).mean((2, 3)),
            a=nn.Conv2d(3, 6, 3),
            b=nn.Conv2d(6, 6, 3, groups=6),
            c=nn.ConvTranspose2d(6, 4, 3),
        ),
        (2, 3, 7, 7),
        [(6, None)],
    ),
    "flattened": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)),
        (2, 3, 5, 5),
        [(4, None)],
    ),
    "fused attention, parts first": (
        fused_attention("parts first"),
        (2, 4, 7),
        [(2, None), (5, 2), (5, 2)],
    ),
    "fused attention, heads first": (
        fused_attention("heads first"),
        (2, 4, 7),
        [(2, None), (5, 2), (5, 2)],
    ),
    "lstm": (
        Net(lambda m, x: m.b(m.a(x)[0]), a=nn.LSTM(3, 5, batch_first=True), b=nn.Linear(5, 2)),
        (2, 4, 3),
        [(5, None)],
    ),
    "two directions": (
        Net(
            lambda m, x: m.b(m.a(x)[0]),
            a=nn.GRU(3, 4, batch_first=True, bidirectional=True),
            b=nn.Linear(8, 2),
        ),
        (2, 4, 3),
        [(4, None), (4, None)],
    ),
    "einsum": (
        Net(
            lambda m, x: torch.einsum("bi,oi->bo", torch.tanh(m.a(x)), m.b.weight),
            a=nn.Linear(5, 6),
            b=nn.Linear(6, 3),
        ),
        (2, 5),
        [(6, None)],
    ),
    "rotary": (
        Net(rotary, q=nn.Linear(5, 6), k=nn.Linear(5, 6), o=nn.Linear(6, 2)),
        (2, 4, 5),
        [],
    ),
    "sorted": (
        Net(chosen, a=nn.Linear(5, 6), b=nn.Linear(6, 2)),
        (2, 5),
        [],
    ),
    "transformer": (
        Net(
            lambda m, x: m.o(m.t(m.i(x))),
            i=nn.Linear(5, 8),
            t=nn.TransformerEncoderLayer(8, 2, 9, batch_first=True),
            o=nn.Linear(8, 3),
        ),
        (2, 4, 5),
        [(2, None), (4, 2), (4, 2), (8, None), (9, None)],
    ),
}
