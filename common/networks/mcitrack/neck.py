"""The state that travels with the search region, and how it and the encoder tell each other what they know."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.mcitrack.config import MCITrackConfig
from common.networks.vision_layers import to_grid, to_tokens


class RootMeanSquareNorm(nn.Module):
    """Division by the root mean square over the width."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length, width) -> the same shape."""
        return tokens * torch.rsqrt(tokens.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class TemporalMixer(nn.Module):
    """One step of a selective state space: time is the sequence, every token keeps a state of its own."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        inner, rank = 2 * width, width // 16
        self.widths = (rank, states, states)
        self.A_log = nn.Parameter(torch.zeros(inner, states))
        self.D = nn.Parameter(torch.ones(inner))
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """tokens: (n, length, width). state: (n, length, 2 width, states), zeros at the start. Returns both, one step on."""
        inner, gate = self.in_proj(tokens).chunk(2, -1)
        inner = F.silu(self.conv1d(inner.transpose(1, 2)).transpose(1, 2))
        step, write, read = self.x_proj(inner).split(self.widths, -1)
        step = F.softplus(self.dt_proj(step))
        # In place, because these tensors are 16 times as large as all others and time goes into moving them.
        after = (step.unsqueeze(-1) * -torch.exp(self.A_log)).exp_().mul_(state)
        state = after.addcmul_((step * inner).unsqueeze(-1), write.unsqueeze(-2))
        seen = (state @ read.unsqueeze(-1)).squeeze(-1) + self.D * inner
        return self.out_proj(seen * F.silu(gate)), state


class Layer(nn.Module):
    """Normalisation and mixer; what the mixer gives is added to the normalised tokens."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.mixer = TemporalMixer(width, states)
        self.norm = RootMeanSquareNorm(width)

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `TemporalMixer`."""
        normed = self.norm(tokens)
        mixed, state = self.mixer(normed, state)
        return normed + mixed, state


class CrossAttention(nn.Module):
    """Attention of one set of tokens to another, each normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=1e-6)
        self.feat_norm = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def mix(self, tokens: Tensor, others: Tensor) -> Tensor:
        """tokens (n, length, width) look at others (n, length of those, width)."""
        memory = self.feat_norm(others)
        mixed: Tensor = self.attn(self.query_norm(tokens), memory, memory, need_weights=False)[0]
        return mixed


class Injector(CrossAttention):
    """The encoder's tokens take from the state's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.gamma = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tensor, carried: Tensor) -> Tensor:
        """-> tokens (n, length, width)."""
        return tokens + self.gamma * self.mix(tokens, carried)


class GridConv(nn.Module):
    """Depth-wise 3 x 3 convolution of tokens on their square grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, side * side, width) -> the same shape."""
        return to_tokens(self.dwconv(to_grid(tokens, round(tokens.shape[1] ** 0.5))))


class ConvFeedForward(nn.Module):
    """Linear layers with a convolution between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.dwconv = GridConv(hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, side * side, width) -> the same shape."""
        out: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(tokens))))
        return out


class Extractor(CrossAttention):
    """The state's tokens take from the encoder's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.ffn = ConvFeedForward(width, width // 4)
        self.ffn_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, carried: Tensor, tokens: Tensor) -> Tensor:
        """-> carried (n, side * side, width)."""
        carried = carried + self.mix(carried, tokens)
        out: Tensor = carried + self.ffn(self.ffn_norm(carried))
        return out


class Interaction(nn.Module):
    """What is said in one round; the last one listens three times."""

    def __init__(self, width: int, heads: int, extra: bool) -> None:
        super().__init__()
        self.injector = Injector(width, heads)
        self.extractor = Extractor(width, heads)
        self.extra_extractors: nn.ModuleList | None = None
        if extra:
            self.extra_extractors = nn.ModuleList(Extractor(width, heads) for _ in range(2))

    def inject(self, tokens: Tensor, carried: Tensor) -> Tensor:
        """See `Injector`."""
        out: Tensor = self.injector(tokens, carried)
        return out

    def extract(self, carried: Tensor, tokens: Tensor) -> Tensor:
        """See `Extractor`."""
        carried = self.extractor(carried, tokens)
        for extractor in self.extra_extractors or ():
            carried = extractor(carried, tokens)
        return carried


class Neck(nn.Module):
    """Four rounds of state step, injection, encoder blocks and extraction."""

    def __init__(self, config: MCITrackConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.neck_heads
        self.layers = nn.ModuleList(Layer(width, config.state) for _ in config.rounds)
        self.interactions = nn.ModuleList(Interaction(width, heads, i == 3) for i in range(4))

    def forward(
        self, tokens: Tensor, blocks: nn.ModuleList, norm: nn.LayerNorm, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens: (n, search tokens + template tokens, width) of the encoder's stem. blocks, norm: the encoder's. state:
        (n, 4, search tokens, 2 width, states).

        Returns search tokens (n, search tokens, width) for the head, and the state one frame on.
        """
        length = self.config.search_grid**2
        carried = tokens[:, :length]
        states = []
        for number, (layer, interaction) in enumerate(zip(self.layers, self.interactions, strict=True)):
            carried, after = layer(carried, state[:, number])
            states.append(after)
            assert isinstance(interaction, Interaction)
            tokens = interaction.inject(tokens, carried)
            for block in self.config.rounds[number]:
                tokens = blocks[block](tokens)
            carried = interaction.extract(carried, tokens)
        return carried + norm(tokens)[:, :length], torch.stack(states, 1)
