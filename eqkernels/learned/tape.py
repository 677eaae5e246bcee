r"""Reverse-mode differentiation: what was computed is written down, and read backwards.

Every operation of :mod:`eqkernels.learned.operations` computes a value and leaves on the tape its inputs, its output
and its pullback (vector-Jacobian product), the function that makes of the gradient of a scalar loss with respect to
the output the gradients with respect to the inputs,

.. math:: \bar x_k = \sum_o \bar y_o\, \frac{\partial y_o}{\partial x_k} .

Read from the end, each output has its whole gradient by the time that its pullback is called (A. Griewank, A. Walther,
Evaluating Derivatives, SIAM 2008, chapter 3).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class Variable:
    """An array with the gradient of the loss with respect to it.

    Parameters
    ----------
    value : ndarray
    wanted : bool, default=True
        Whether the loss is to be differentiated with respect to it: constants are not.

    Attributes
    ----------
    gradient : ndarray or None
        Filled by :meth:`Tape.backward`; None: the loss does not depend on the value.
    """

    __slots__ = ("_own", "gradient", "value", "wanted")

    def __init__(self, value, wanted=True):
        self.value = value
        self.wanted = wanted
        self.gradient: np.ndarray | None = None
        self._own = False  # whether nobody else has the array of the gradient, which may then be changed

    def accumulate(self, gradient):
        """Add one contribution: a value that is used twice has the sum of both gradients."""
        if self.gradient is None:
            self.gradient, self._own = gradient, False
        elif self._own:
            self.gradient += gradient
        else:
            self.gradient, self._own = self.gradient + gradient, True


class Tape:
    """Operations in the order in which they were applied.

    Parameters
    ----------
    recording : bool, default=True
        False: values only, and no memory for anything else.

    Examples
    --------
    >>> tape, x = Tape(), Variable(np.array([1.0, 2.0]))
    >>> y = tape.record(x.value**2, [x], lambda gradient: [2 * x.value * gradient])
    >>> y.gradient = np.ones(2)  # the loss is the sum of y
    >>> tape.backward()
    >>> x.gradient
    array([2., 4.])
    """

    def __init__(self, recording=True):
        self.recording = recording
        self._records: list[tuple[Variable, list[Variable], Callable]] = []

    def record(self, value, inputs, pullback):
        """Make a variable of a value and remember where it comes from.

        Parameters
        ----------
        value : ndarray
        inputs : list of Variable
        pullback : callable
            Takes the gradient with respect to the value; returns one gradient for each input, None where it is zero
            or the input is not wanted.

        Returns
        -------
        Variable
        """
        wanted = self.recording and any(one.wanted for one in inputs)
        output = Variable(value, wanted)
        if wanted:
            self._records.append((output, inputs, pullback))
        return output

    def backward(self):
        """Carry the gradients of the outputs, set by the caller, back to everything that they depend on."""
        while self._records:
            output, inputs, pullback = self._records.pop()
            if output.gradient is None:
                continue
            for variable, gradient in zip(inputs, pullback(output.gradient), strict=True):
                if variable.wanted and gradient is not None:
                    variable.accumulate(gradient)
            output.gradient = None  # nothing reads it again: its memory is free before the next pullback
