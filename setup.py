"""Compiles the cffi extension; everything else about the package is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["appliance/native/build.py:ffibuilder", "appliance/native/build.py:probe_ffibuilder"])
