"""The run file and what turns it into a run: schema, overrides, checks, the run itself."""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.experiment.outlook import plan
    from hansa.experiment.places import default_folder
    from hansa.experiment.prepare import prepare
    from hansa.experiment.run import resume, run
    from hansa.experiment.runfile import RunFile
    from hansa.experiment.settings_file import override, read_yaml


__all__ = ["RunFile", "default_folder", "override", "plan", "prepare", "read_yaml", "resume", "run"]

__getattr__ = front(__name__)
