"""From the settings to what any measurement begins with: which sensors are wished for, and the run as far
as it is known before anything is read. `emt run` and a program's own meter begin alike since both come here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from emt_cli.config import Config, keys
from emt_cli.model import Run, Sampling, Settings
from emt_cli.sensors.base import Machine

if TYPE_CHECKING:
    from emt_cli.sensors.wishes import Wishes


def draft(
    command: Sequence[str],
    config: Config,
    machine: Machine,
    *,
    home: str,
    name: str = "",
    tags: Mapping[str, str] | None = None,
) -> Run:
    """The run of this process or of a child of it, with the idle power of a calibration of this machine,
    where there is one below `home` and nothing configured says otherwise."""
    from datetime import datetime, timezone

    from emt_cli import host
    from emt_cli.analysis.carbon import find_grid
    from emt_cli.store.calibration import calibrated, folder
    from emt_cli.store.library import new_id

    started = datetime.now(timezone.utc)
    facts = host.facts(machine.text, os.environ)
    run = Run(
        id=new_id(started, command),
        command=tuple(command),
        started_at=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        host=facts,
        sampling=Sampling(frequency_hz=config[keys.FREQUENCY]),
        name=name,
        tags=dict(tags or {}),
        job=host.job(os.environ),
        recorder_pid=os.getpid(),
        settings=Settings(
            scope=config[keys.SCOPE],
            total=config[keys.TOTAL],
            idle_policy=config[keys.IDLE_POLICY],
            idle_w=dict(config[keys.IDLE_W]),
            reserved_cpus=host.reserved_cpus(machine.text, os.environ, facts.cpu_count),
            pue=config[keys.PUE],
            pue_source=config.source(keys.PUE),
        ),
        grid=find_grid(
            location=config[keys.LOCATION],
            location_source=config.source(keys.LOCATION),
            intensity=config[keys.INTENSITY],
            intensity_source=config.source(keys.INTENSITY),
            timezone=facts.timezone,
        ),
        notices=config.notices,
    )
    return calibrated(run, folder(os.environ, home), machine.text)


def wishes_of(config: Config) -> Wishes:
    """What the settings say of the sensors."""
    from emt_cli.sensors.wishes import ConfiguredDevice, PowerRange, Wishes

    cpu_watts = config[keys.CPU_WATTS]
    return Wishes(
        only=config[keys.ONLY],
        exclude=config[keys.EXCLUDE],
        opt_in=config[keys.WITH],
        cpu_power=None if cpu_watts is None else PowerRange(idle_w=cpu_watts[0], full_w=cpu_watts[1]),
        ram_w_per_gb=config[keys.RAM_W_PER_GB],
        devices=tuple(
            ConfiguredDevice(name=name, power=PowerRange(idle_w=idle_w, full_w=full_w), domain=domain)
            for name, (idle_w, full_w, domain) in config[keys.DEVICES].items()
        ),
    )
