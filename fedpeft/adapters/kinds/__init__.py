"""What a run file can train (registry kind `adapter`): one file each.

A kind is a function `(base, table, *, classifier, seed) -> FlatAdapter` that puts something trainable on a frozen base.
"""
