"""How a measured model was made: widths per layer, fused nodes, the chain. Part of a report, to JSON and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from finegates_export.pipeline.report import ExportReport
from finegates_export.pruning.plan import LayerPlan
from finegates_export.verification.link import Link

INTEGER_LINKS = "int8"
"""How the names of the links begin that come after the float32 graph."""


@dataclass(frozen=True)
class LayerWidths:
    """What is left of one layer."""

    layer: int
    """Counted from 0, the one that reads the embeddings."""
    heads: int
    heads_before: int
    qk_width: int
    """Q/K dims of every head that stays, padding included."""
    vo_width: int
    """The same for V/O dims."""
    head_width_before: int
    """Dims of a head of the unpruned layer."""
    neurons: int
    """Neurons of the feed-forward network that stay, padding included."""
    neurons_before: int
    attention_padding: int
    """Q/K and V/O dims, over all heads, that are dead and stay so that heads are equally wide."""
    neuron_padding: int
    """Neurons that are dead and stay so that the width fits."""

    @classmethod
    def of(cls, plan: LayerPlan) -> LayerWidths:
        """The widths that a plan gives a layer."""
        attention, feed_forward = plan.attention, plan.feed_forward
        return cls(
            layer=plan.layer,
            heads=len(attention.heads),
            heads_before=attention.heads_before,
            qk_width=attention.qk_width,
            vo_width=attention.vo_width,
            head_width_before=attention.width_before,
            neurons=len(feed_forward.neurons),
            neurons_before=feed_forward.width_before,
            attention_padding=attention.padding,
            neuron_padding=feed_forward.padding,
        )

    @property
    def head_share(self) -> float:
        """Dims of a head that stays over those of an unpruned one."""
        return (self.qk_width + self.vo_width) / (2 * self.head_width_before)

    @property
    def attention_share(self) -> float:
        """Dims that stay, padding included, over those of the unpruned layer's heads."""
        return self.heads * self.head_share / self.heads_before

    @property
    def attention_padding_share(self) -> float:
        """Dead dims over those of the unpruned layer's heads."""
        return self.attention_padding / (2 * self.heads_before * self.head_width_before)

    @property
    def neuron_share(self) -> float:
        """Neurons that stay, padding included, over those of the unpruned layer."""
        return self.neurons / self.neurons_before

    @property
    def neuron_padding_share(self) -> float:
        """Dead neurons over those of the unpruned layer."""
        return self.neuron_padding / self.neurons_before


@dataclass(frozen=True)
class ChainLink:
    """One form of the model beside the gated one."""

    name: str
    relative: float
    """Largest difference of the outputs, over their scale."""
    exact: bool
    """Whether it is held to that difference; else to its predictions."""
    agreement: float | None
    """Share of equal predictions, or what stands for it where the task has none; None where it is not known."""

    @classmethod
    def of(cls, link: Link) -> ChainLink:
        """What a report keeps of a link."""
        return cls(link.name, link.relative, link.exact, link.agreement)


@dataclass(frozen=True)
class ExportFacts:
    """One export; a model's float32 and int8 graph share it."""

    target: str
    seconds: float
    """Of the whole export, from run folder to files."""
    hidden_size: int
    """Dims of the residual stream that stay."""
    hidden_size_before: int
    layers: tuple[LayerWidths, ...]
    fused: dict[str, int]
    """Fused nodes by class: attention, normalization, activation."""
    integer_products: int
    """0 in float32."""
    rows: int
    """Rows that every link of the chain ran on."""
    chain: tuple[ChainLink, ...]
    """The links in front of this graph and its own."""

    @classmethod
    def of(cls, report: ExportReport, *, quantized: bool) -> ExportFacts:
        """The facts of one of the export's two graphs.

        Args:
            report: what the export told.
            quantized: whether the graph is the int8 one; the float32 graph's chain ends before it.
        """
        links = (link for link in report.links if quantized or not link.name.startswith(INTEGER_LINKS))
        return cls(
            target=report.target,
            seconds=report.seconds,
            hidden_size=report.plan.residual_width,
            hidden_size_before=report.plan.hidden_size,
            layers=tuple(LayerWidths.of(layer) for layer in report.plan.layers),
            fused={name: count for name, count in report.fused.items() if count},
            integer_products=report.quantized.products if quantized and report.quantized else 0,
            rows=report.rows,
            chain=tuple(ChainLink.of(link) for link in links),
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types."""
        values = asdict(self)
        return {**values, "layers": list(values["layers"]), "chain": list(values["chain"])}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ExportFacts:
        """Rebuild from `to_json`.

        Raises:
            KeyError: something is missing.
            TypeError: something is not understood.
        """
        layers = tuple(LayerWidths(**layer) for layer in values["layers"])
        return cls(**{**values, "layers": layers, "chain": tuple(ChainLink(**link) for link in values["chain"])})
