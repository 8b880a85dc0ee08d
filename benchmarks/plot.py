"""`python -m benchmarks.plot growth.json growth.svg`: the growth of time and memory, drawn.

Needs matplotlib (benchmarks/requirements.txt), which nothing else does.
"""

import json
import sys
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

_WIDTH, _HEIGHT = 9.0, 7.0  # inches
_FIXED = ("start", "small upload")  # these must not grow: drawn thick


def draw(report: dict[str, Any], path: str) -> None:
    """Draw a panel for time and one for memory, for each series."""
    # The same figures give the same file, and a small one.
    mpl.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.family": "sans-serif"})
    series = report["series"]
    figure, panels = plt.subplots(2, len(series), figsize=(_WIDTH, _HEIGHT), sharey="row", squeeze=False)
    for column, (name, points) in enumerate(series.items()):
        entries = [point["entries"] for point in points]
        for panel, key, label in zip(
            panels[:, column], ("seconds", "peak_mib"), ("seconds", "peak memory, MiB"), strict=True
        ):
            for operation in points[0]["figures"]:
                values = [point["figures"][operation][key] for point in points]
                width = 2.5 if operation in _FIXED else 1.2
                panel.plot(entries, values, marker="o", markersize=3, linewidth=width, label=operation)
            panel.set(xscale="log", yscale="log", xlabel="manifest entries", title=name)
            panel.set_ylabel(label if column == 0 else "")
            panel.grid(visible=True, alpha=0.3)
    panels[0, 0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as source:
        draw(json.load(source), sys.argv[2])
