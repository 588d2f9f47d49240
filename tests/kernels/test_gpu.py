"""Which module computes an op on GPUs."""

import importlib.util
import logging

import pytest

from lattice_flows.kernels import gpu


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("LATTICE_FLOWS_KERNELS", raising=False)
    gpu.implementation.cache_clear()
    yield
    gpu.implementation.cache_clear()


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records]


def test_triton_where_there_is_a_kernel(caplog):
    pytest.importorskip("triton", reason="triton is not installed")
    for op, n in (("spectral_flow", 2), ("spectral_flow", 3), ("circular_spline", None), ("algebra_exp", 3)):
        assert gpu.implementation(op, n).__name__ == f"lattice_flows.kernels.{op}.triton"
    assert warnings_of(caplog) == []


def test_one_warning_and_the_reference_where_there_is_none(caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert gpu.implementation("spectral_flow", 4).__name__.endswith("spectral_flow.reference")
    (warning,) = warnings_of(caplog)
    assert "N = 4" in warning or "triton is not installed" in warning
    caplog.clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert gpu.implementation("circular_spline").__name__.endswith("circular_spline.reference")
    (warning,) = warnings_of(caplog)
    assert "pip install triton" in warning


def test_references_on_request(caplog, monkeypatch):
    monkeypatch.setenv("LATTICE_FLOWS_KERNELS", "reference")
    assert gpu.implementation("circular_spline").__name__.endswith("circular_spline.reference")
    assert warnings_of(caplog) == []
