"""How an OpenSearch index keeps its vectors: settings that are checked together. Knows no cluster and no mapping."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Compression = Literal[1, 2, 4, 8, 16, 32]

# OpenSearch documentation, "Memory-optimized vectors", table of compression levels; k-NN 3.5 refuses the others.
_COMPRESSIONS: dict[str, tuple[int, ...]] = {"lucene": (1, 4), "faiss": (1, 2, 8, 16, 32)}
_ON_DISK_DEFAULT = {"lucene": 4, "faiss": 32}


class VectorSettings(BaseModel):
    """What the index does with float32 vectors; parts hold them whole whatever is set here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["lucene", "faiss"] = Field(
        "lucene", description="k-NN engine (OpenSearch): lucene | faiss (native libraries on every node)"
    )
    vectors: Literal["float", "half", "byte"] = Field(
        "float", description="components in the graph (OpenSearch): float | half (faiss) | byte (lucene; whole numbers)"
    )
    on_disk: bool = Field(False, description="read vectors from disk, answer from compressed ones and score again")
    compression: Compression | None = Field(
        None,
        description="the graph's vectors are so many times smaller: lucene 1, 4; faiss 1, 2, 8, 16, 32; null: 1, and on "
        "disk the most",
    )
    gpu_build: bool = Field(False, description="the cluster's remote service builds the graphs (faiss)")
    derived_source: bool | None = Field(
        None,
        description="keep vectors out of the stored source and put them together when read; false: the store is twice as "
        "large, and a load costs its client half the CPU; null: as the cluster does",
    )
    faiss_installed: bool = Field(
        False, description="every node has faiss's native libraries; a node without them ends at the first refresh"
    )
    server_hybrid: bool = Field(
        False,
        description="the cluster fuses hybrid searches where it can (RRF, as here); otherwise they are fused here",
    )

    @property
    def times_smaller(self) -> int:
        """The compression in effect."""
        if self.vectors == "half":
            return 2
        return self.compression or (_ON_DISK_DEFAULT[self.engine] if self.on_disk else 1)

    @property
    def returned_exactly(self) -> bool:
        """Whether the index gives every bit back. Lucene keeps whole vectors beside compressed ones (seen with 3.5); of
        faiss it is not known."""
        return self.engine == "lucene" or self.times_smaller == 1

    @model_validator(mode="after")
    def _vectors_agree(self) -> VectorSettings:
        if self.vectors != "float" and (self.on_disk or self.compression is not None):
            raise ValueError(f"vectors: {self.vectors} cannot be compressed or kept on disk as well; leave out vectors, or "
                             "on_disk and compression")  # fmt: skip
        if self.vectors == "half" and self.engine != "faiss":
            raise ValueError("vectors: half needs engine: faiss; with lucene, compression: 4 makes the graph smaller")
        if self.vectors == "byte" and self.engine != "lucene":
            raise ValueError("vectors: byte needs engine: lucene; faiss has no cosine similarity of bytes")
        if self.vectors == "float" and self.times_smaller not in _COMPRESSIONS[self.engine]:
            known = ", ".join(map(str, _COMPRESSIONS[self.engine]))
            raise ValueError(f"compression: {self.times_smaller} is not known to engine: {self.engine}; it has {known}")
        if self.engine == "lucene" and self.on_disk and self.times_smaller == 1:
            raise ValueError("on_disk with compression: 1 needs engine: faiss; lucene has compression: 4 there")
        if self.gpu_build and self.engine != "faiss":
            raise ValueError("gpu_build needs engine: faiss")
        return self
