"""The benchmark: no speed without green tests, tables with every row, and rivals that compute the same."""

import re

import bench
import bench_compiled
import bench_flows
import bench_ops
import pytest
import samples
import torch

from lattice_flows.kernels import build, spectral_flow


def table(capsys, *arguments):
    """Lists of cells, without the two lines of the header and the rule between them; the exit code must be 0."""
    assert bench.main(["--quick", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| SU(")]


def test_quick_table(capsys, monkeypatch):
    monkeypatch.setattr(bench, "gate", lambda op: "")
    rows = table(capsys, "algebra_exp")
    names = [f"SU({n}) {dtype}" for n in (2, 3) for dtype in ("complex64", "complex128")]
    assert [row[0] for row in rows] == names
    assert {row[1] for row in rows} == {"linalg.matrix_exp"}
    for row in rows:
        *times, fwd, both = row[2:8]
        assert all(float(cell) > 0 for cell in (*times, fwd, both))
        # the ratios are of the times that stand beside them, rounded
        assert float(fwd) == pytest.approx(float(times[2]) / float(times[0]), abs=0.1, rel=0.02)
        assert all(re.fullmatch(r"\d+%", cell) for cell in row[8:])


@pytest.mark.parametrize("state", ["red", "missing", "green"])
def test_gate(state, tmp_path, capsys, monkeypatch):
    """A red or missing test leaves one line and no number."""
    folder = tmp_path / "tests" / "kernels"
    folder.mkdir(parents=True)
    if state != "missing":
        (folder / "test_algebra_exp.py").write_text(f"def test_it():\n    assert {state == 'green'}\n")
    monkeypatch.setattr(bench, "HERE", tmp_path / "experiments" / "kernels")
    monkeypatch.setattr(bench, "OPS", {"algebra_exp": lambda effort, generator: iter(())})
    assert bench.main(["algebra_exp", "--quick"]) == (0 if state == "green" else 1)
    out, error = capsys.readouterr()
    if state == "green":
        assert "| algebra_exp | against |" in out
        assert error == ""
    else:
        assert out == ""
        words = {"red": "while its tests fail: 1 failed", "missing": "test_algebra_exp.py is not there"}[state]
        assert re.fullmatch(f"algebra_exp: no speed .*{words}.*\n", error)


def test_unknown_op(capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(["spectral"])
    assert end.value.code == 2
    assert "unknown op spectral; there are spectral_flow" in capsys.readouterr().err


def test_references_run_without_kernels_in_both_directions(generator):
    """Else a ratio would compare the backward pass with itself."""
    used = []
    subject = bench_ops.Subject(lambda x: _Spy.apply(x, used), (torch.ones(3, requires_grad=True),), 3, compiled=False)
    bench.measure({"": subject}, bench_ops.QUICK)
    assert set(used) == {("forward", True), ("backward", True)}
    used.clear()
    bench.measure({"": subject._replace(compiled=True)}, bench_ops.QUICK)
    assert set(used) == {("forward", False), ("backward", False)}


class _Spy(torch.autograd.Function):
    """Notes whether kernels are switched off where it runs."""

    original = staticmethod(build.native)

    @staticmethod
    def forward(ctx, x, used):
        ctx.used = used
        used.append(("forward", build.native is not _Spy.original))
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        ctx.used.append(("backward", build.native is not _Spy.original))
        return grad, None


@pytest.mark.parametrize("n", [2, 3])
def test_closed_forms(n, generator):
    """What torch.compile is given, before compilation: values, and gradients along the group."""
    w = samples.matrices("haar", n, 500, generator, torch.complex128).requires_grad_()
    params = samples.parameters(n, 8, 500, generator, torch.float64).requires_grad_()
    expected = spectral_flow(w, params, 8)
    g, logdet = bench_compiled.closed_form(torch.view_as_real(w), params, 8)
    found = torch.view_as_complex(g), logdet
    grads = [torch.randn(y.shape, dtype=y.dtype, generator=generator) for y in expected]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)
    (ours, ours_p), (theirs, theirs_p) = (torch.autograd.grad(y, (w, params), grads) for y in (found, expected))
    torch.testing.assert_close(ours_p, theirs_p, atol=1e-6, rtol=1e-6)
    x = w.detach().mH @ ours
    x = (x - x.mH) / 2
    x = x - x.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] * torch.eye(n)
    torch.testing.assert_close(w.detach() @ x, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("n", [2, 3])
def test_eager(n, generator):
    w = samples.matrices("haar", n, 100, generator, torch.complex128)
    params = samples.parameters(n, bench_ops.BINS, 100, generator, torch.float64)
    for a, b in zip(bench_ops.eager_spectral_flow(w, params), spectral_flow(w, params, bench_ops.BINS), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("kind", samples.KINDS)
def test_samples(n, kind, generator):
    """Each kind is in SU(N), and as far from degeneracy as it says."""
    w = samples.matrices(kind, n, 40, generator, torch.complex128)
    one = torch.eye(n, dtype=w.dtype)
    torch.testing.assert_close(w.mH @ w, one.expand_as(w), atol=1e-13, rtol=0)
    torch.testing.assert_close(torch.linalg.det(w), torch.ones(40, dtype=w.dtype), atol=1e-13, rtol=0)
    centre = torch.exp(2j * torch.pi * torch.arange(n, dtype=torch.float64) / n)
    away = (w[:, None] - centre[:, None, None] * one).abs().amax((-2, -1))
    name, _, number = kind.partition(" ")
    size = float(number or 0)
    if name == "identity":
        assert size / 100 <= away[:, 0].max() <= 2 * size + 1e-14
    elif name == "centre":
        assert away[:, 1:].amin(1).max() < 2 * size
        assert set(away.argmin(1).tolist()) == set(range(1, n))
    elif name in ("gap", "degenerate"):
        z = torch.linalg.eigvals(w)
        distance = (z[:, :, None] - z[:, None, :]).abs() + 9 * torch.eye(n)
        assert (distance.amin((-2, -1)) <= size + 1e-7).all()
    with pytest.raises(ValueError, match="unknown kind 'hair', valid kinds: haar, identity 1e-2"):
        samples.matrices("hair", n, 4, generator, torch.complex64)


def test_flows():
    """A step and the memory of a small flow, each in a process of its own."""
    assert (
        bench_flows.measure(
            bench_flows.STEP, [1, "training.batch=4", "flow.architecture=stripes", "flow.layers=2"], kernels=True
        )
        > 0
    )
    assert bench_flows.measure(bench_flows.MEMORY, [4, 2, 200], kernels=True) > 0
