import numpy as np

from eqkernels.learned.tape import Tape, Variable


def square(tape, x):
    return tape.record(x.value**2, [x], lambda gradient: [2 * x.value * gradient])


def test_a_value_used_twice_has_the_sum_of_both_gradients():
    tape, x = Tape(), Variable(np.array([3.0]))
    y = square(tape, x)
    z = tape.record(y.value * x.value, [y, x], lambda gradient: [gradient * x.value, gradient * y.value])
    z.gradient = np.ones(1)
    tape.backward()
    assert x.gradient == 3 * 3.0**2


def test_constants_and_unused_branches_cost_nothing():
    tape, x, constant = Tape(), Variable(np.ones(2)), Variable(np.ones(2), wanted=False)
    assert not square(tape, constant).wanted
    unused, used = square(tape, x), square(tape, x)
    used.gradient = np.ones(2)
    tape.backward()
    assert unused.gradient is None
    assert constant.gradient is None
    assert np.array_equal(x.gradient, [2.0, 2.0])


def test_without_recording_nothing_is_wanted():
    tape = Tape(recording=False)
    assert not square(tape, Variable(np.ones(1))).wanted
