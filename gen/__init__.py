"""The generator: configuration, contraction networks, planner, cycle model, program encoding,
artefact, Verilog.
"""
