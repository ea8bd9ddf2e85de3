"""Results as pure functions of a run: `complete(run)` is the run with energy, carbon and curve filled in."""

from __future__ import annotations

from dataclasses import replace

from emt_cli.model import Run


def complete(run: Run) -> Run:
    """The same run with its results computed anew from its raw part; nothing else decides a number."""
    from emt_cli.analysis import carbon, cautions
    from emt_cli.analysis.energy import account

    if run.executions:
        from emt_cli.analysis.executions import account_each, repeat

        energy, attribution, curve, executions = account_each(run)
        run = replace(run, executions=executions, repeat=repeat(executions))
    else:
        energy, attribution, curve = account(run)
    run = replace(run, energy=energy, attribution=attribution, curve=curve)
    if run.spans:
        from emt_cli.analysis import phases

        run = replace(run, phases=phases.account(run))
    grams = None if run.grid is None else carbon.account(energy, run.grid, run.settings)
    run = replace(run, carbon=grams)
    if run.work is not None:
        from emt_cli.analysis.per_unit import worked

        run = replace(run, work=worked(run))
    return replace(run, notices=cautions.merge(run))
