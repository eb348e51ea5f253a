"""Report stage: one self-contained page of a finished round, with galleries, figures and tables."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from videodpo.runtime.locks import writes
from videodpo.runtime.settings import ReportSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.report.curves import training_figures
from videodpo.stages.report.figures import data_figures, forest
from videodpo.stages.report.gallery import samples, write_gallery
from videodpo.stages.report.hacking import hacking_figures, hacking_notes, hacking_rows
from videodpo.stages.report.html import page_environment, write_web_files
from videodpo.stages.report.inputs import read_round
from videodpo.stages.report.panels import (
    benchmark_rows,
    flow_rows,
    headline,
    headroom_sources,
    provenance_rows,
    summary_rows,
)
from videodpo.stages.report.style import FigureFolder
from videodpo.stages.report.views import comparison_gallery, pair_gallery
from videodpo.storage.files import write_text
from videodpo.storage.manifests import product_folder

log = logging.getLogger(__name__)


@writes("report")
def make_report(snapshot: Snapshot[ReportSettings], round_folder: Path) -> None:
    """Write `report/index.html`, with its scripts in `web`, rows in `data`, and `figures` and `clips`.

    The page loads nothing from elsewhere and works from a file:// address. Browsers refuse modules and requests there,
    so scripts are classic ones, and the rows are scripts too. The same tables give the same bytes.

    Raises:
        InputError: a table of the round is missing or unreadable.
    """
    finished = read_round(snapshot, round_folder)
    folder = round_folder / "report"
    shown = snapshot.settings.report
    with product_folder(folder) as partial:
        figures = FigureFolder(partial / "figures")
        hacking = hacking_rows(finished)
        comparison = comparison_gallery(finished)
        page = (
            page_environment(__name__)
            .get_template("page.html")
            .render(
                finished=finished,
                headline=headline(finished.summary),
                summary_rows=summary_rows(finished.summary),
                headroom_sources=headroom_sources(finished.summary),
                benchmark_rows=benchmark_rows(finished.benchmark),
                forest=forest(finished, figures),
                comparisons=write_gallery(comparison, partial, shown.num_comparisons),
                pairs=write_gallery(pair_gallery(finished), partial, shown.num_pairs),
                samples=samples(comparison, partial, shown.num_comparisons),
                hacking=hacking,
                hacking_notes=hacking_notes(finished, hacking),
                hacking_figures=hacking_figures(finished, hacking, figures),
                data_figures=data_figures(finished, figures),
                training_figures=training_figures(finished.train_log, figures),
                flow_rows=flow_rows(finished),
                dropped=_counts(finished.prompts_dropped.step),
                rejected=_counts(finished.pairs_rejected.reason),
                provenance=provenance_rows(finished),
            )
        )
        write_web_files(partial)
        write_text(partial / "index.html", page)
    log.info("report: %s", folder / "index.html")


def _counts(values: Iterable[str]) -> list[tuple[str, int]]:
    """Each value with its number of rows, most frequent first."""
    return sorted(Counter(values).items(), key=lambda row: (-row[1], row[0]))
