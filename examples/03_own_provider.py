"""A provider of your own, here one that reports what it loads: ``python 03_own_provider.py``.

A package names its provider as an entry point of the group ``uigc.providers`` (docs/PROVIDERS.md). Before it writes a
file with it, it should be compared with the integer reference: by ``uigc verify``, or as here, by modules that may
change with any version.
"""

from pathlib import Path

from uigc import Bundle
from uigc.runtime import providers
from uigc.runtime.exactness import conformance, verify
from uigc.runtime.progress import silent


class Reporting(providers.Provider):
    name = "reporting"

    def problem(self) -> str | None:
        return None

    def load(self, path: Path, options: providers.ProviderOptions) -> providers.Graph:
        print(f"{self.name} loads {path.name}")
        return providers.find("cpu").load(path, options)


bundle = Bundle.load()
cases = conformance.make_cases(bundle, windows=2, images=[], seed=0, threads=2, progress=silent)
outcome = verify.examine(bundle, Reporting(), "fp32", providers.ProviderOptions(), cases)
print(f"{outcome.values} numbers compared with the reference, {outcome.different} different")
