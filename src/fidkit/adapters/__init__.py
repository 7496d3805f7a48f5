"""Documents and answers for other people's frameworks, a file each.

Only who imports one of these files imports its framework.
"""
