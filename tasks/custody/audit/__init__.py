"""The laws of an audit: what the objects of an incident must be to one another, from the bucket alone.

Everything that is read here may be forged: names, sizes and content are untrusted until something vouches for them.
"""
