"""What ops without a derivative have in common."""

from lattice_flows.kernels.autograd import OpFunction


class Underivable(OpFunction):
    """Raises when a derivative is asked for, in reverse or in forward mode, instead of giving 0."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keeps nothing."""

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError("this op has no derivative (see its documentation)")

    jvp = backward
