"""softseg: Towards contrast-agnostic soft segmentation of the spinal cord."""
