"""The node's configuration, /etc/qbb/node.toml.

    values.py    kinds of values: how they are written, parsed, printed
    schema.py    the table of settings: the one truth
    model.py     frozen dataclasses that programs use
    reader.py    TOML to dataclasses, all problems at once; the check of secret files
    printer.py   dataclasses to TOML that parses back to itself
    lines.py     where a setting stands in the file
    errors.py    Problem, ConfigurationErrors

Programs import `appliance.config`.
"""
