"""Compiles the cffi extensions and the program qbb-tls; everything else about the package is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

CLIENT = Path("appliance/client/c")
CFLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]


class Build(build_ext):
    """After the extensions, the client program in C, which lies beside its source. The probe is for the tests in the
    tree: nothing that is installed elsewhere has it."""

    def run(self) -> None:
        if not self.inplace:
            self.extensions = [extension for extension in self.extensions if not extension.name.endswith("_probe")]
        super().run()
        sources = [str(CLIENT / name) for name in ("qbb_tls.c", "qbb_client.c")]
        objects = self.compiler.compile(sources, output_dir=self.build_temp, extra_postargs=CFLAGS)
        folder = CLIENT if self.inplace else Path(self.build_lib) / CLIENT
        folder.mkdir(parents=True, exist_ok=True)
        libraries = ["ssl", "crypto", "pthread"]
        self.compiler.link_executable(objects, "qbb-tls", output_dir=str(folder), libraries=libraries)


setup(
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    cmdclass={"build_ext": Build},
    cffi_modules=["appliance/native/build.py:ffibuilder", "appliance/native/build.py:probe_ffibuilder"],
)
