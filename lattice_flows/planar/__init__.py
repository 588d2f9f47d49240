"""Two dimensions: rectangles that are cut in two, the hierarchical flow, characters, exact values and samples."""
