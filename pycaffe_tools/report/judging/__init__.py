"""The paper's statements, judged from the numbers of a reproduction by rules that can fail.

:mod:`.figures` says how sure a number is, :mod:`.claim` what is made of it; the
other modules hold the statements, by what they are about.
"""
