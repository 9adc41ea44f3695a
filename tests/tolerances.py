"""Every tolerance between two ways to the same score, in raw units (0..1), with its reason."""

#: One runtime, one machine: alone, in any batch, in any order, on any number of workers, from any kind of source.
SAME_RUNTIME = 0.0
#: torch on a GPU against torch on a CPU, and against itself in another batch; no GPU has checked it yet.
GPU = 1e-3
#: torch, OpenVINO and ONNX Runtime among themselves, fp32 on a CPU: other orders of summation through some 60 layers.
BETWEEN_RUNTIMES = 1e-4
#: A card's golden number on another machine: other vector units round otherwise.
GOLDEN = 1e-4
