"""`python -m rayjobs`: the jobs and their recipes."""

from __future__ import annotations

import importlib
import pkgutil

import rayjobs


def jobs() -> dict[str, dict[str, str]]:
    """`{job: {recipe: first line of its docstring}}` of every module of `rayjobs` that has `RECIPES`."""
    found = {}
    for info in pkgutil.iter_modules(rayjobs.__path__):
        if info.ispkg or info.name in {"__main__", "cli", "seeds"}:
            continue
        module = importlib.import_module(f"rayjobs.{info.name}")
        if hasattr(module, "RECIPES"):
            found[info.name] = {
                name: (recipe.__doc__ or "").strip().split("\n")[0] for name, recipe in module.RECIPES.items()
            }
    return found


def main() -> None:
    print("python -m rayjobs.<job> <recipe> [--help | --dry-run | --dotted.key value …]\n")
    for job, recipes in jobs().items():
        print(job)
        for name, first_line in recipes.items():
            print(f"  {name:<22} {first_line}")


if __name__ == "__main__":
    main()
