"""What pyproject.toml cannot say: the native extension, and the weights that travel in a wheel.

The extension is built where torch can be imported and there is a C++ compiler
(`pip install --no-build-isolation .`); elsewhere the same sources make a pure-Python wheel whose
operators run on plain torch. VFI_NO_EXTENSION=1 leaves it out in any case. A compiler that fails
makes the installation fail: an extension that is silently missing helps nobody.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def load_build_module():
    """vfi_cli/native/build.py by its path: the package's dependencies may not be here."""
    path = ROOT / "vfi_cli" / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("vfi_native_build", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


class BuildPyWithWeights(build_py):
    """Puts weights/ into the package; an editable install reads the checkout's."""

    def weights(self):
        return sorted(path for path in (ROOT / "weights").glob("*") if path.is_file())

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "vfi_cli" / "_weights"
            # Emptied first: what an earlier build left there is not in the manifest.
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for path in self.weights():
                shutil.copyfile(path, target / path.name)

    def get_outputs(self, include_bytecode=True):
        target = Path(self.build_lib) / "vfi_cli" / "_weights"
        return [
            *super().get_outputs(include_bytecode),
            *(str(target / path.name) for path in self.weights()),
        ]


build = load_build_module()
reason = "VFI_NO_EXTENSION is set" if os.environ.get("VFI_NO_EXTENSION") else build.obstacle()
if reason is None:
    native = {
        "ext_modules": [build.extension(ROOT)],
        "cmdclass": {"build_py": BuildPyWithWeights, "build_ext": build.builder()},
        # No Python in the library, only torch's stable ABI: one wheel for all Pythons.
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }
else:
    print(f"The native operators are left out: {reason}.", file=sys.stderr)
    native = {"cmdclass": {"build_py": BuildPyWithWeights}}

setup(**native)
