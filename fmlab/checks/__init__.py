"""Checks: one function per exercise, `lab1.euler_step(euler_step)`.

A check touches a student's object only by calling it with tensors, numbers and callables and by looking at what comes
back; everything it compares with is its own. A failed check raises `CheckFailed`, an AssertionError whose text says
what was expected and found, which misconception it looks like, and what to reread.
"""
