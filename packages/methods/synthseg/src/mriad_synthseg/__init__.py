"""synthseg: A Learning Strategy for Contrast-agnostic MRI Segmentation (MIDL 2020)."""
