"""Makes the embedded lists from their sources. The same sources give the same bytes.

    pip install pyyaml sae-lens transformer-lens
    python make.py .../sae_lens/pretrained_saes.yaml .../transformer_lens/supported_models.py
"""

import ast
import gzip
import json
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parent
RELEASE = ["repo_id", "model", "conversion_func", "config_overrides"]
SAE = ["id", "path", "l0", "variance_explained", "neuronpedia", "norm_scaling_factor"]


def items(saes):
    """The SAEs of a release, one entry per id. One release of 6.54 has a copy of itself inside one of its items."""
    found = {}
    for sae in saes:
        kept = {key: sae[key] for key in SAE if sae.get(key) is not None}
        if "path" in kept:
            kept["path"] = str(kept["path"])
        found.setdefault(sae["id"], kept)
        for nested in items(sae.get("saes") or []):
            found.setdefault(nested["id"], nested)
    return list(found.values())


def registry(text):
    releases = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {
        name: {key: release[key] for key in RELEASE if release.get(key)} | {"saes": items(release["saes"])}
        for name, release in sorted(releases.items())
    }


def aliases(text):
    """Reads the two tables of the module without running it."""
    tables = {}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if target.id in ("OFFICIAL_MODEL_NAMES", "MODEL_ALIASES"):
                tables[target.id] = ast.literal_eval(node.value)
    lines = []
    for name in sorted(tables["OFFICIAL_MODEL_NAMES"], key=str.lower):
        seen = {name.lower()}
        names = [n for n in tables["MODEL_ALIASES"].get(name, []) if not (n.lower() in seen or seen.add(n.lower()))]
        lines.append(" ".join([name, *names]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    saes, models = map(Path, sys.argv[1:])
    compact = json.dumps(registry(saes.read_text()), separators=(",", ":"), ensure_ascii=False)
    (HERE / "pretrained_saes.json.gz").write_bytes(gzip.compress(compact.encode(), 9, mtime=0))
    (HERE / "model_aliases.txt").write_text(aliases(models.read_text()))
