"""One file for each decomposition format: how its cores become a contraction network."""

from drawbar.gen.formats.block_term import block_term_network
from drawbar.gen.formats.cp import cp_network
from drawbar.gen.formats.dense import dense_network
from drawbar.gen.formats.tensor_ring import tensor_ring_network
from drawbar.gen.formats.tensor_train import tensor_train_network
from drawbar.gen.formats.tt import tt_network
from drawbar.gen.formats.tucker import tucker_network

__all__ = [
    "block_term_network",
    "cp_network",
    "dense_network",
    "tensor_ring_network",
    "tensor_train_network",
    "tt_network",
    "tucker_network",
]
