"""Formats of gauge configurations, one a module; `lattice_flows.io.configurations` is their registry.

A format's module has three functions:

    recognises(head)         whether the first 1,024 bytes of a file are those of the format
    read(content, given)     the content of a file as `base.Stored`; `given` is what the user says about it
    pack(links, words)       the content of a file, where the format is written
"""
