"""One file for each decomposition format: how its cores become a contraction network."""

from drawbar.gen.formats.dense import dense_network
from drawbar.gen.formats.tensor_train import tensor_train_network
from drawbar.gen.formats.tt import tt_network

__all__ = ["dense_network", "tensor_train_network", "tt_network"]
