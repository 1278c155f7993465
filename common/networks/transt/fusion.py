"""Attention within and between template and search tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.MultiheadAttention):
    """torch's multi-head attention on (n, length, width), without its weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, batch_first=True)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """-> (n, length of query, width)."""
        mixed: Tensor = self.forward(query, key, value, need_weights=False)[0]
        return mixed


class FusionLayer(nn.Module):
    """Both streams attend to themselves, then to each other. Stream 1 is the template, stream 2 the search region."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn1 = Attention(width, heads)
        self.self_attn2 = Attention(width, heads)
        self.multihead_attn1 = Attention(width, heads)
        self.multihead_attn2 = Attention(width, heads)
        self.linear11 = nn.Linear(width, hidden)
        self.linear12 = nn.Linear(hidden, width)
        self.linear21 = nn.Linear(width, hidden)
        self.linear22 = nn.Linear(hidden, width)
        self.norm11 = nn.LayerNorm(width)
        self.norm12 = nn.LayerNorm(width)
        self.norm13 = nn.LayerNorm(width)
        self.norm21 = nn.LayerNorm(width)
        self.norm22 = nn.LayerNorm(width)
        self.norm23 = nn.LayerNorm(width)

    def forward(self, template: Tensor, search: Tensor, where1: Tensor, where2: Tensor) -> tuple[Tensor, Tensor]:
        """template, search: (n, length, width). where1, where2: their position tables. Returns both streams."""
        one, two = template + where1, search + where2
        template = self.norm11(template + self.self_attn1.mix(one, one, template))
        search = self.norm21(search + self.self_attn2.mix(two, two, search))
        one, two = template + where1, search + where2
        from_search = self.multihead_attn1.mix(one, two, search)
        from_template = self.multihead_attn2.mix(two, one, template)
        template = self.norm12(template + from_search)
        search = self.norm22(search + from_template)
        template = self.norm13(template + self.linear12(F.relu(self.linear11(template))))
        search = self.norm23(search + self.linear22(F.relu(self.linear21(search))))
        return template, search


class DecoderLayer(nn.Module):
    """The search region attends to the template once more."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, template: Tensor, search: Tensor, where1: Tensor, where2: Tensor) -> Tensor:
        """See `FusionLayer`; returns the search tokens."""
        search = self.norm1(search + self.multihead_attn.mix(search + where2, template + where1, template))
        out: Tensor = self.norm2(search + self.linear2(F.relu(self.linear1(search))))
        return out


class Encoder(nn.Module):
    """Fusion layers one after another."""

    def __init__(self, width: int, heads: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(width, heads, hidden) for _ in range(depth))


class Decoder(nn.Module):
    """Decoder layers and the last normalisation."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((DecoderLayer(width, heads, hidden),))
        self.norm = nn.LayerNorm(width)


class FusionNetwork(nn.Module):
    """Template and search tokens -> search tokens that know the template."""

    def __init__(self, width: int, heads: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.encoder = Encoder(width, heads, hidden, depth)
        self.decoder = Decoder(width, heads, hidden)

    def forward(self, template: Tensor, search: Tensor, where1: Tensor, where2: Tensor) -> Tensor:
        """See `FusionLayer`; returns (n, length of search, width)."""
        for layer in self.encoder.layers:
            template, search = layer(template, search, where1, where2)
        for layer in self.decoder.layers:
            search = layer(template, search, where1, where2)
        out: Tensor = self.decoder.norm(search)
        return out
