"""Eigenphases and orthonormal eigenvectors of batched unitary matrices."""
